"""Published scores beside ours: which one, by which protocol, with which verdict."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from made_up import results_of

from lorun.evaluation.protocols import PROTOCOLS, get_protocol
from lorun.physics.block_cs import BlockCSConfig
from lorun.profiles import load_profile
from lorun.results.comparison import TOLERANCE
from lorun.results.markdown import render
from lorun.results.published import _published, published_scores
from lorun.results.result_set import computed

OWN = "jianzhangcs/ISTA-Net-PyTorch released weights, evaluated with its own script"
MATCHING = {"ratio": 25, "block": 33, "matrix": "gaussian"}


@pytest.fixture
def set11(tiny_profile_file):
    """As the ISTA-Net family is measured: 33 x 33 blocks of a fixed matrix at 25 % on Set11; weights as asked."""

    def make(weights=None):
        labels = yaml.safe_load(tiny_profile_file.read_text())
        labels["tasks"]["cs"].update(
            data={"train": "tiny", "validation": "tiny", "test": ["set11"]},
            physics={"name": "block_cs", "block": 33, "count": "ista_net"},
            strategies=[],
            baselines=["ista_net_plus", "linear_mmse"],
            weights=weights or {},
        )
        tiny_profile_file.write_text(yaml.safe_dump(labels))
        return load_profile(tiny_profile_file)

    return make


def compared_rows(profile, rows):
    return computed(profile, results_of(rows)).comparison


def compared(profile, psnr, ssim, **labels):
    return compared_rows(profile, rows_of(psnr, ssim, **labels))


def rows_of(psnr, ssim, status="completed", protocol="cs_float_y"):
    labels = {"task": "cs", "setting": "r25", "dataset": "set11", "method": "ista_net_plus", "seed": 0}
    labels |= {"protocol": protocol, "status": status, "image": "a" if psnr else None}
    return [{**labels, "metric": "psnr", "value": psnr}, {**labels, "metric": "ssim", "value": ssim}]


RELEASED = {"ista_net_plus": {"r25": "weights.pkl"}}


def test_released_weights_are_judged(set11):
    psnr, ssim, *cited = compared(set11(RELEASED), 32.4493, 0.9231).to_dict("records")
    assert (psnr["metric"], psnr["published"], psnr["ours"]) == ("psnr", 32.44, 32.4493)
    assert psnr["delta"] == pytest.approx(0.0093)
    assert (psnr["tolerance"], psnr["verdict"]) == (TOLERANCE["psnr"], "reproduced")
    assert (ssim["metric"], ssim["published"], ssim["verdict"]) == ("ssim", 0.9237, "off")  # by 0.0006
    for row in (psnr, ssim):
        assert (row["operator"], row["weights"], row["confidence"]) == ("fixed_gaussian_33", "released", "own")
        assert row["source"] == OWN
    assert {row["source"] for row in cited} == {"CASNet Table IV"}
    assert {row["verdict"] for row in cited} == {"protocol unknown"}
    assert all(pd.isna(row["tolerance"]) for row in cited)


def test_a_hundredth_of_a_dB_more_is_off(set11):
    assert compared(set11(RELEASED), 32.4501, 0.9237).verdict[:2].tolist() == ["off", "reproduced"]
    assert compared(set11(RELEASED), 32.4299, 0.9237).verdict[0] == "off"


def test_what_was_trained_here_is_not_judged(set11):
    found = compared(set11(), 32.44, 0.9237)
    assert found.weights.unique().tolist() == ["trained"]
    assert found[found.source == OWN].verdict.unique().tolist() == ["other training"]
    assert found.tolerance.isna().all()


def test_another_protocol_is_not_compared(set11):
    found = compared(set11(RELEASED), 32.44, 0.9237, protocol="cs_round_y")
    assert set(found.protocol) == {"cs_float_y"}
    assert set(found.verdict) == {"missing"}
    assert found.ours.isna().all()


def test_what_a_protocol_does_not_give_is_not_missing(set11, monkeypatch):
    protocol = get_protocol("cs_float_y")
    monkeypatch.setitem(PROTOCOLS, protocol.name, replace(protocol, measures=protocol.measures[:1]))
    assert set(compared(set11(RELEASED), 32.44, 0.9237).metric) == {"psnr"}


def test_a_failed_run_is_missing(set11):
    found = compared(set11(RELEASED), None, None, status="failed")
    assert set(found.verdict) == {"missing"}
    assert found.delta.isna().all()


def test_without_published_scores_the_table_is_empty_and_has_its_columns(tiny_profile):
    found = compared_rows(tiny_profile, [])
    assert found.empty
    assert {"published", "ours", "delta", "tolerance", "verdict"} <= set(found.columns)


def test_the_page_shows_them(set11):
    profile = set11(RELEASED)
    page = render(profile, computed(profile, results_of(rows_of(32.4493, 0.9231))))
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines()]
    (cells,) = [cells for cells in lines if {"psnr", "reproduced"} <= set(cells)]
    assert cells[6:11] == ["32.44", "32.45", "0.009", "0.01", "reproduced"]


@pytest.mark.parametrize(
    ("method", "dataset", "changes", "psnr"),
    [
        ("ista_net_plus", "set11", {}, [32.44, 32.59]),  # the most trusted first
        ("ista_net_plus", "set11", {"ratio": 50}, [38.11]),
        ("ista_net_plus", "bsd68", {}, [29.36]),
        ("ista_net_plus", "set11", {"ratio": 30}, []),
        ("ista_net_plus", "set11", {"block": 32}, []),
        ("ista_net_plus", "set11", {"matrix": "learned"}, []),
        ("amp_net", "set11", {"matrix": "learned"}, [34.60]),
        ("opine_net_plus", "set11", {"matrix": "learned_binary"}, [34.81, 34.86]),
        ("opine_net_plus", "set11", {"matrix": "learned"}, []),
        ("amp_net", "set11", {}, []),
        ("ista_net_plus", "general100", {}, []),
        ("linear_mmse", "set11", {}, []),
    ],
)
def test_published_scores_hold_for_one_dataset_matrix_and_ratio(method, dataset, changes, psnr):
    scores = published_scores("cs", dataset, method, BlockCSConfig(**{**MATCHING, **changes}))
    assert [score.psnr for score in scores] == psnr


def test_no_published_score_serves_both_a_fixed_and_a_learned_matrix():
    methods = {entry["method"] for entry in _published()["cs"]}
    served = {"gaussian": set(), "learned": set(), "learned_binary": set()}
    for ratio in (1, 4, 5, 10, 20, 25, 30, 40, 50):
        for block in (32, 33):
            for matrix, found in served.items():
                physics = BlockCSConfig(ratio=ratio, block=block, matrix=matrix)
                assert physics.kind == f"{'fixed_gaussian' if matrix == 'gaussian' else matrix}_{block}"
                found |= {method for method in methods if published_scores("cs", "set11", method, physics)}
    assert served["gaussian"] == {"ista_net", "ista_net_plus", "ista_net_pp", "coast", "dpc_dun"}
    assert served["learned_binary"] == {"opine_net_plus"}
    assert not served["learned"] & (served["gaussian"] | served["learned_binary"])


@pytest.mark.parametrize("kind", ["one", "another"])
def test_an_entry_that_names_no_operator_holds_for_the_only_kind_of_its_task(kind):
    physics = SimpleNamespace(kind=kind, published_as="sim")
    (score,) = published_scores("cassi", "kaist10", "dauhst", physics)
    assert (score.psnr, score.ssim, score.confidence) == (38.36, 0.967, "own")
    assert published_scores("cassi", "kaist10", "dauhst", SimpleNamespace(kind=kind, published_as=25)) == []


def test_a_simulated_dataset_is_called_so(set11):
    profile = set11(RELEASED)
    results = computed(profile, results_of([]), simulated=["set11"])
    assert results.comparison.simulated.all()
    assert not compared_rows(profile, []).simulated.any()
    page = render(profile, results)
    assert " set11 (simulated) |" in page


def test_every_published_score_names_a_protocol_of_ours_or_none():
    for entry in [*_published()["cs"], *_published()["cassi"], *_published()["sr"]]:
        assert entry["protocol"] is None or entry["protocol"] in PROTOCOLS
