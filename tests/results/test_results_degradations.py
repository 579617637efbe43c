"""Scores under each kernel of super-resolution: means and spreads, beside what is published, and their Markdown."""

import math
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from made_up import results_of
from tiny import SR_PROFILE

from lorun.physics.blur_downsample import BlurDownsampleConfig
from lorun.profiles import load_profile
from lorun.results.comparison import compare
from lorun.results.markdown import render, render_details
from lorun.results.published import _published, published_methods, published_scores
from lorun.results.result_set import computed
from lorun.results.summary import by_degradation, summarise

TABLE_1 = {
    "kernels": "file",
    "kernels_file": Path("data/kernels12/kernels_12.mat"),
    "scored": list(range(1, 13)),
    "quantisation": "usrnet_uint8",
}


@pytest.fixture
def profile(tmp_path):
    """Kernels 2 and 12 of the paper's, at scales 3 and 2, on its test set."""
    task = SR_PROFILE["tasks"]["sr"]
    physics = {"name": "blur_downsample", **TABLE_1, "kernels_file": str(TABLE_1["kernels_file"]), "scored": [2, 12]}
    evaluation = {"protocols": ["usrnet_rgb", "sr_y"]}
    changes = {"physics": physics, "settings": {"x3": {"scale": 3}, "x2": {"scale": 2}}, "evaluation": evaluation}
    changes |= {"data": {**task["data"], "test": ["cbsd68"]}, "strategies": ["block1"]}
    path = tmp_path / "sr.yaml"
    path.write_text(
        yaml.safe_dump({**SR_PROFILE, "seeds": [0, 1], "tasks": {"sr": {**task, **changes}}}, sort_keys=False)
    )
    return load_profile(path)


def rows_of(seed, values, method="initial_reconstruction", setting="x2", protocol="usrnet_rgb", metric="psnr"):
    """`values`: degradation -> of each image."""
    labels = {"task": "sr", "setting": setting, "dataset": "cbsd68", "method": method, "seed": seed, "metric": metric}
    labels |= {"protocol": protocol, "status": "completed"}
    return [
        {**labels, "degradation": degradation, "image": f"image{place}", "value": value}
        for degradation, images in values.items()
        for place, value in enumerate(images)
    ]


ROWS = rows_of(0, {"2": [30, 32], "12": [20, 22]}) + rows_of(1, {"2": [33, 35], "12": [25, 25]})


def line(frame, degradation, method="initial_reconstruction", setting="x2", protocol="usrnet_rgb", metric="psnr"):
    labels = {"degradation": degradation, "method": method, "setting": setting, "protocol": protocol, "metric": metric}
    (found,) = frame[(frame[list(labels)] == pd.Series(labels)).all(axis=1)].to_dict("records")
    return found


def test_means_and_spreads_are_of_one_degradation(profile):
    found = by_degradation(profile, results_of(ROWS))
    second, last = (line(found, degradation) for degradation in ("2", "12"))
    assert (second["value"], second["sd"]) == (32.5, pytest.approx(3 / math.sqrt(2), abs=1e-6))
    assert (last["value"], last["sd"]) == (23, pytest.approx(4 / math.sqrt(2), abs=1e-6))
    assert (second["seeds"], second["images"], second["operator"]) == (2, 2, "kernels_12_x2_noise0_uint8")
    assert len(found) == 2 * 2 * 2 * 2 * 2  # settings, protocols, methods, metrics, degradations
    assert found.degradation.tolist() == ["2", "12"] * 16
    missing = line(found, "2", setting="x3")
    assert (missing["seeds"], missing["images"]) == (0, 0)
    assert pd.isna(missing["value"])
    summary = summarise(profile, results_of(ROWS))
    (whole,) = summary.query(
        "method == 'initial_reconstruction' and setting == 'x2' and protocol == 'usrnet_rgb'"
    ).to_dict("records")
    assert (whole["psnr"], whole["images"]) == ((32.5 + 23) / 2, 2)


def test_an_operator_without_degradations_has_no_lines(tiny_profile):
    assert by_degradation(tiny_profile, results_of([])).empty


@pytest.mark.parametrize(
    ("method", "changes", "psnr"),
    [
        ("usrnet", {"scale": 2}, {"1": 30.55, "2": 30.96, "12": 30.75}),
        ("usrnet", {"scale": 3}, {"1": 27.16, "12": 27.41}),
        ("usrnet", {"scale": 3, "noise": 2.55}, {"1": 26.99, "12": 26.49}),
        ("usrnet", {"scale": 3, "noise": 7.65}, {"1": 26.45, "12": 25.01}),
        ("usrnet", {"scale": 4}, {"1": 25.30, "12": 25.70}),
        ("ircnn", {"scale": 4}, {"1": 23.99, "12": 24.57}),
        ("rcan", {"scale": 2}, {"1": 29.48, "12": 22.04}),
        ("ircnn", {"scale": 3, "noise": 2.55}, {}),
        ("usrnet", {"scale": 2, "noise": 2.55}, {}),
        ("usrnet", {"scale": 2, "quantisation": "float"}, {}),
    ],
)
def test_published_scores_are_of_a_kernel_and_a_degradation(method, changes, psnr):
    physics = BlurDownsampleConfig(**{**TABLE_1, **changes})
    scores = published_scores("sr", "cbsd68", method, physics)
    assert [score.degradation for score in scores] == (list(physics.degradations) if psnr else [])
    assert {score.degradation: score.psnr for score in scores if score.degradation in psnr} == psnr
    assert {(score.ssim, score.protocol) for score in scores} <= {(None, "usrnet_rgb")}
    assert (method in published_methods("sr", "cbsd68", physics)) == bool(psnr)
    chosen = BlurDownsampleConfig(**{**TABLE_1, **changes, "scored": [12]})
    assert [score.psnr for score in published_scores("sr", "cbsd68", method, chosen)] == list(psnr.values())[-1:]


@pytest.fixture
def claimed(monkeypatch):
    """The published row of USRNet, as if it were of a baseline that there is."""
    monkeypatch.setitem(_published()["sr"][0], "method", "initial_reconstruction")


def test_every_published_kernel_is_compared_with_ours(profile, claimed):
    degradations = by_degradation(profile, results_of(ROWS))
    found = compare(profile, summarise(profile, results_of(ROWS)), degradations)
    assert found[["setting", "degradation"]].values.tolist() == [["x3", "2"], ["x3", "12"], ["x2", "2"], ["x2", "12"]]
    ours = line(found, "12")
    assert (ours["published"], ours["ours"], ours["delta"]) == (30.75, 23, -7.75)
    assert (ours["verdict"], ours["confidence"]) == ("other training", "own")
    assert set(found[found.setting == "x3"].verdict) == {"missing"}
    page = render(profile, computed(profile, results_of(ROWS)))
    assert re.search(r"\| +degradation \| +published \|", page)


def test_the_table_has_the_paper_s_shape(profile, claimed):
    page = render_details(profile, computed(profile, results_of(ROWS)))
    section = page[page.index("## sr, cbsd68, x2") :]
    table = section.split("PSNR (dB) under each degradation, `usrnet_rgb`:\n\n")[1].split("\n\n")[0]
    cells = [[cell.strip() for cell in text.strip("|").split("|")] for text in table.splitlines()]
    assert [cells[0], *cells[2:]] == [
        ["method", "2", "12"],
        ["block1", "–", "–"],
        ["initial_reconstruction", "32.50", "23.00"],
        ["initial_reconstruction (USRNet, CVPR 2020, Table 1)", "30.96", "30.75"],
        ["ircnn (USRNet, CVPR 2020, Table 1)", "30.16", "28.96"],
        ["rcan (USRNet, CVPR 2020, Table 1)", "26.76", "22.04"],
    ]
    assert section.count("(USRNet, CVPR 2020, Table 1)") == 3  # no SSIM, and nothing under sr_y
    assert page.count("under each degradation") == 2 * 2 * 2  # settings, protocols, metrics
