"""The folder of tables and figures of a tiny profile that is really trained, and of one that is not all there."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from lorun.results.rows import read_rows, to_frame, write_table
from PIL import Image

from lorun.accounting.account import account
from lorun.errors import LorunError
from lorun.evaluation.reconstruct import evaluate
from lorun.methods import PRETRAIN
from lorun.profiles import load_profile
from lorun.results.figures import write_figures
from lorun.results.paths import ROWS, account_path
from lorun.results.result_set import write_result_set
from lorun.training import train

CPU = torch.device("cpu")
TABLES = {
    "rows.csv",
    "summary.csv",
    "summary.json",
    "summary.md",
    "details.md",
    "claims.csv",
    "degradations.csv",
    "comparison.csv",
    "accounting.csv",
    "trainings.csv",
    "curves.csv",
    "timing.csv",
    "version.json",
}
FIGURES = {"psnr_parameters_cs_tiny_r25.png", "strip_cs_tiny_r25.png"}


@pytest.fixture(scope="module")
def shared_runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def runs(tiny_profile, tiny_data, shared_runs):
    """All runs of the tiny profile, trained, evaluated and accounted once; not to be changed."""
    for experiment in tiny_profile.experiments():
        folder = shared_runs / experiment.folder
        if (folder / ROWS).exists():
            continue
        if experiment.method == "lorun":
            train(experiment.base, runs=shared_runs, data=tiny_data, device=CPU)
        assert train(experiment, runs=shared_runs, data=tiny_data, device=CPU).status == "completed"
        write_table(folder / ROWS, to_frame(evaluate(experiment, runs=shared_runs, data=tiny_data, device=CPU)))
        account_path(shared_runs, experiment).write_text(json.dumps(account(experiment, CPU)))
    return shared_runs


@pytest.fixture
def own_runs(runs, tmp_path):
    """A copy of the runs to damage."""
    return shutil.copytree(runs, tmp_path / "runs")


def folder_of(profile, runs, method):
    return runs / profile.experiment("cs", "r25", method, 0).folder


def undo_evaluation(profile, runs, method, **logs):
    """As a run that has not got further than its logs."""
    folder = folder_of(profile, runs, method)
    (folder / ROWS).unlink()
    for name, text in logs.items():
        (folder / f"{name}.log").write_text(text)
    return folder


def test_the_set_is_complete(tiny_profile, runs, tmp_path):
    summary = write_result_set(tiny_profile, runs, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == TABLES
    methods = tiny_profile.tasks["cs"].methods
    rows = read_rows(tmp_path / "out/rows.csv")
    assert len(rows) == len(methods) * 2 * 2 * 2  # images, protocols, metrics
    assert (rows.status == "completed").all()
    assert not rows.duplicated(["method", "image", "protocol", "metric"]).any()
    assert summary.method.tolist() == methods * 2
    assert pd.read_csv(tmp_path / "out/summary.csv").shape == summary.shape
    assert pd.read_csv(tmp_path / "out/accounting.csv").method.tolist() == methods
    curves = pd.read_csv(tmp_path / "out/curves.csv")
    assert set(curves.method) == set(methods) - {"linear_mmse"}
    assert curves[curves.method == "lorun"].step.tolist() == [4]  # phase 2 of 8 - 4 steps, validated every 4
    assert curves[curves.method == "shared"].step.tolist() == [4, 8]
    assert len(pd.read_csv(tmp_path / "out/claims.csv")) == 4
    trainings = pd.read_csv(tmp_path / "out/trainings.csv").set_index("method")
    assert trainings.index.tolist() == methods
    assert trainings.unmoved.tolist() == [0] * len(methods)


def test_a_training_that_does_not_say_what_moved_is_not_taken_for_one_where_all_did(tiny_profile, own_runs, tmp_path):
    path = folder_of(tiny_profile, own_runs, "lorun") / "training.json"
    said = json.loads(path.read_text())
    assert said.pop("unmoved") == []
    path.write_text(json.dumps(said))  # as written before there was the field
    write_result_set(tiny_profile, own_runs, tmp_path / "out")
    trainings = pd.read_csv(tmp_path / "out/trainings.csv").set_index("method")
    assert pd.isna(trainings.unmoved["lorun"])
    assert trainings.unmoved["block_k"] == 0


def test_the_summary_is_that_of_the_rows(tiny_profile, runs, tmp_path):
    summary = write_result_set(tiny_profile, runs, tmp_path)
    rows = read_rows(tmp_path / "rows.csv")
    of = rows[(rows.method == "lorun") & (rows.protocol == "cs_float_y")]
    found = summary[(summary.method == "lorun") & (summary.protocol == "cs_float_y")].iloc[0]
    assert found.psnr == pytest.approx(of[of.metric == "psnr"]["value"].mean(), abs=1e-6)
    assert found.ssim == pytest.approx(of[of.metric == "ssim"]["value"].mean(), abs=1e-6)
    assert 5 < found.psnr < 60
    assert found.steps == 8  # phase 1 is part of it


def test_every_completed_row_says_where_it_comes_from(tiny_profile, runs, tmp_path):
    write_result_set(tiny_profile, runs, tmp_path)
    rows = read_rows(tmp_path / "rows.csv")
    nowhere_in_git = {"trained_commit", "trained_dirty", "commit", "dirty"}
    said = set(rows.columns) - nowhere_in_git - {"message", "degradation"}
    assert rows[sorted(said)].notna().all(axis=None)
    assert rows.degradation.isna().all()
    for name in ("commit", "dirty"):
        assert (rows[name].isna() == rows[f"trained_{name}"].isna()).all()
    keys = {e.method: e.key for e in tiny_profile.experiments()}
    assert rows.run.tolist() == [keys[method] for method in rows.method]
    assert rows.data_md5.str.fullmatch(r"tiny=[0-9a-f]{32}\.dir").all()
    assert rows.versions.str.contains("torch=").all()


def test_writing_again_gives_the_same_bytes(tiny_profile, runs, tmp_path):
    for folder in ("first", "second"):
        write_result_set(tiny_profile, runs, tmp_path / folder)
    for name in TABLES - {"timing.csv"}:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_times_are_in_the_table_of_times_alone(tiny_profile, runs, tmp_path):
    write_result_set(tiny_profile, runs, tmp_path)
    timing = pd.read_csv(tmp_path / "timing.csv")
    methods = tiny_profile.tasks["cs"].methods
    latency = timing[timing.what == "reconstruction latency"]
    assert latency.method.tolist() == methods
    assert (latency.median_ms > 0).all()
    training = timing[timing.what == "training"].set_index("method").seconds
    assert training.index.tolist() == methods
    assert (training.drop("linear_mmse") > 0).all()
    for name in TABLES - {"timing.csv", "summary.md", "details.md"}:
        assert "latency" not in (tmp_path / name).read_text()
        assert "seconds" not in (tmp_path / name).read_text()


def leaves(tree):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value)
        else:
            yield name, value


def test_the_json_twin_holds_numbers_and_null(tiny_profile, runs, tmp_path):
    summary = write_result_set(tiny_profile, runs, tmp_path)
    metrics = json.loads((tmp_path / "summary.json").read_text())
    assert all(value is None or type(value) in (int, float) for name, value in leaves(metrics) if name != "status")
    found = metrics["cs"]["tiny"]["r25"]["cs_round_y"]
    assert list(found) == tiny_profile.tasks["cs"].methods
    expected = summary[(summary.method == "shared") & (summary.protocol == "cs_round_y")].iloc[0]
    assert found["shared"]["psnr"] == expected.psnr
    assert found["shared"]["step_total"] == expected.step_total
    assert found["shared"]["psnr_sd"] is None  # one seed
    assert found["linear_mmse"]["step_total"] is None


def test_dvc_reads_the_json_twin(tiny_profile, runs, tmp_path):
    pytest.importorskip("dvc")
    write_result_set(tiny_profile, runs, tmp_path)
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True, capture_output=True)
    shown = subprocess.run(
        [*dvc, "metrics", "show", "--json", "summary.json"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    (read,) = json.loads(shown.stdout)[""]["data"].values()
    written = json.loads((tmp_path / "summary.json").read_text())["cs"]["tiny"]["r25"]["cs_float_y"]["lorun"]
    for name in ("psnr", "parameters_network", "step_total", "flops"):
        assert read["data"]["cs"]["tiny"]["r25"]["cs_float_y"]["lorun"][name] == written[name]


def test_a_missing_run_is_named(tiny_profile, own_runs, tmp_path):
    undo_evaluation(tiny_profile, own_runs, "shared")
    with pytest.raises(LorunError, match=r"cs/r25/shared seed 0 is not evaluated .*lorun evaluate"):
        write_result_set(tiny_profile, own_runs, tmp_path / "out")
    assert not (tmp_path / "out").exists()  # nothing half-written


def test_a_missing_account_is_named(tiny_profile, own_runs, tmp_path):
    account_path(own_runs, tiny_profile.experiment("cs", "r25", "shared", 0)).unlink()
    with pytest.raises(LorunError, match=r"cs/r25/shared seed 0 is not accounted .*lorun account"):
        write_result_set(tiny_profile, own_runs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def partial(profile, runs, folder):
    summary = write_result_set(profile, runs, folder, partial=True)
    return summary, read_rows(folder / "rows.csv")


def test_in_part_a_missing_run_is_a_row_that_says_why(tiny_profile, own_runs, tmp_path):
    train_fails = undo_evaluation(tiny_profile, own_runs, "shared", train="starts\n\nerror: no base\n")
    (train_fails / "training.json").unlink()
    undo_evaluation(tiny_profile, own_runs, "block_k", train="fine\n", evaluate="Traceback\nerror: no weights\n")
    shutil.rmtree(folder_of(tiny_profile, own_runs, "lorun"))
    account_path(own_runs, tiny_profile.experiment("cs", "r25", "lorun", 0)).unlink()
    summary, rows = partial(tiny_profile, own_runs, tmp_path / "out")

    for method, status, message in [
        ("shared", "failed", "error: no base"),
        ("block_k", "failed", "error: no weights"),
        ("lorun", "not_run", None),
    ]:
        of = rows[rows.method == method]
        assert len(of) == 2 * 2  # per protocol and metric
        assert of["value"].isna().all()
        assert set(of.status) == {status}
        assert set(of.message.dropna()) == ({message} if message else set())
        assert set(of.run) == {tiny_profile.experiment("cs", "r25", method, 0).key}
        assert set(summary[summary.method == method].status) == {status}
    others = rows[rows.method.isin(["block1", "shared_sigma", "lorun_random", "linear_mmse"])]
    assert (others.status == "completed").all()
    assert others["value"].notna().all()
    assert {path.name for path in (tmp_path / "out").iterdir()} == TABLES


def test_in_part_every_protocol_has_the_rows_of_its_metrics(tiny_profile_file, tmp_path):
    said = yaml.safe_load(tiny_profile_file.read_text())
    said["tasks"]["cs"]["evaluation"]["protocols"] = ["measurement_residual", "cs_float_y"]
    said["tasks"]["cs"].update(strategies=["shared"], baselines=[])
    tiny_profile_file.write_text(yaml.safe_dump(said))
    _, rows = partial(load_profile(tiny_profile_file), tmp_path / "none", tmp_path / "out")
    found = list(zip(rows.protocol, rows.metric, rows.status, strict=True))
    pairs = [("measurement_residual", "residual"), ("cs_float_y", "psnr"), ("cs_float_y", "ssim")]
    assert found == [(*one, "not_run") for one in pairs]
    summary = json.loads((tmp_path / "out/summary.json").read_text())["cs"]["tiny"]["r25"]
    assert list(summary["measurement_residual"]["shared"])[:3] == ["residual", "residual_sd", "parameters_network"]
    assert list(summary["cs_float_y"]["shared"])[:4] == ["psnr", "psnr_sd", "ssim", "ssim_sd"]


def test_in_part_a_run_that_was_only_interrupted_has_not_failed(tiny_profile, own_runs, tmp_path):
    progress = "cs/r25/shared seed 0: step 0/8: starts\ncs/r25/shared seed 0: step 4/8: loss 0.1\n"
    folder = undo_evaluation(tiny_profile, own_runs, "shared", train=progress)
    (folder / "training.json").unlink()
    _, rows = partial(tiny_profile, own_runs, tmp_path / "out")
    assert set(rows[rows.method == "shared"].status) == {"not_run"}


def test_in_part_an_old_log_of_the_evaluation_does_not_hide_why_the_training_failed(tiny_profile, own_runs, tmp_path):
    folder = undo_evaluation(tiny_profile, own_runs, "shared", train="error: no space\n", evaluate="error: long ago\n")
    (folder / "training.json").unlink()
    _, rows = partial(tiny_profile, own_runs, tmp_path / "out")
    assert set(rows[rows.method == "shared"].message) == {"error: no space"}


def test_in_part_before_any_run_all_is_not_run(tiny_profile, tmp_path):
    summary, rows = partial(tiny_profile, tmp_path / "none", tmp_path / "out")
    assert set(rows.status) == set(summary.status) == {"not_run"}
    assert set(rows.method) == set(tiny_profile.tasks["cs"].methods)
    assert {path.name for path in (tmp_path / "out").iterdir()} == TABLES


def test_what_the_tables_hold_of_runs_that_are_not_here_is_kept(tiny_profile, runs, tiny_data, tmp_path):
    out = tmp_path / "out"
    draw(tiny_profile, runs, tiny_data, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    summary = write_result_set(tiny_profile, tmp_path / "none", out, data=tiny_data, keep=True)
    write_figures(tiny_profile, summary, runs=tmp_path / "none", data=tiny_data, folder=out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before

    here = tmp_path / "here"  # of one method, the rest being kept
    shutil.copytree(folder_of(tiny_profile, runs, "shared"), folder_of(tiny_profile, here, "shared"))
    write_result_set(tiny_profile, here, out, data=tiny_data, keep=True)
    assert {name: (out / name).read_bytes() for name in TABLES} == {name: before[name] for name in TABLES}


def test_what_is_kept_is_of_the_same_configuration_and_has_a_result(tiny_profile_file, runs, tmp_path):
    profile = load_profile(tiny_profile_file)
    write_result_set(profile, runs, tmp_path / "out")
    said = yaml.safe_load(tiny_profile_file.read_text())
    said["tasks"]["cs"]["training"]["learning_rates"] = {"shared": 0.5}
    tiny_profile_file.write_text(yaml.safe_dump(said))
    other = load_profile(tiny_profile_file)
    with pytest.raises(LorunError, match="cs/r25/shared seed 0 is not evaluated"):
        write_result_set(other, tmp_path / "none", tmp_path / "out", keep=True)
    write_result_set(other, tmp_path / "none", tmp_path / "out", partial=True, keep=True)
    rows = read_rows(tmp_path / "out" / "rows.csv")
    assert set(rows[rows.status == "not_run"].method) == {"shared"}
    curves = pd.read_csv(tmp_path / "out" / "curves.csv")
    assert "shared" not in set(curves.method)


def test_a_diverged_training_is_a_row_with_its_status(tiny_profile_file, tiny_data, tmp_path):
    said = yaml.safe_load(tiny_profile_file.read_text())
    task = said["tasks"]["cs"]
    task["training"]["learning_rate"] = 1e30
    task.update(strategies=["block1"], baselines=[])
    task["evaluation"]["protocols"] = ["cs_float_y", "measurement_residual"]
    tiny_profile_file.write_text(yaml.safe_dump(said))
    profile = load_profile(tiny_profile_file)
    (experiment,) = profile.experiments()
    runs = tmp_path / "runs"
    assert train(experiment, runs=runs, data=tiny_data, device=CPU).status == "diverged"
    rows = to_frame(evaluate(experiment, runs=runs, data=tiny_data, device=CPU))
    write_table(runs / experiment.folder / ROWS, rows)
    summary, rows = partial(profile, runs, tmp_path / "out")
    assert set(rows.status) == set(summary.status) == {"diverged"}
    assert rows["value"].isna().all()
    assert rows.metric.tolist() == ["psnr", "ssim", "residual"]
    assert rows.message.str.fullmatch(r"loss is nan at step \d with learning rate \S+e\+29").all()
    assert summary.seeds.tolist() == [0, 0]


REGISTRY = """\
tiny:
  role: train+test
  tasks: [cs]
  what: patterns
  licence: CC0
  redistribution: "yes"
  citation: nobody
  built_by: tests
  simulated: {}
"""


@pytest.mark.parametrize("simulated", [True, False])
def test_the_registry_says_what_is_simulated(tiny_profile, tmp_path, simulated):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/registry.yaml").write_text(REGISTRY.format(str(simulated).lower()))
    write_result_set(tiny_profile, tmp_path / "none", tmp_path / "out", partial=True, data=tmp_path / "data")
    assert set(pd.read_csv(tmp_path / "out/summary.csv").simulated) == {simulated}
    for page in ("summary.md", "details.md"):
        assert ("tiny (simulated)" in (tmp_path / "out" / page).read_text()) == simulated


def pixels(path):
    with Image.open(path) as image:
        image.load()
        return np.asarray(image.convert("L"))


def draw(profile, runs, data, folder):
    summary = write_result_set(profile, runs, folder, partial=True)
    return write_figures(profile, summary, runs=runs, data=data, folder=folder)


def test_figures_are_drawn_with_the_same_bytes_each_time(tiny_profile, runs, tiny_data, tmp_path):
    first = draw(tiny_profile, runs, tiny_data, tmp_path / "first")
    second = draw(tiny_profile, runs, tiny_data, tmp_path / "second")
    assert {path.name for path in first} == FIGURES
    for path, again in zip(first, second, strict=True):
        assert path.read_bytes() == again.read_bytes()
        height, width = pixels(path).shape
        assert 250 < height < 1500
        assert 500 < width < 3000
        assert len(np.unique(pixels(path))) > 20  # something is drawn


def test_figures_show_a_method_without_result_as_such(tiny_profile, own_runs, runs, tiny_data, tmp_path):
    whole = draw(tiny_profile, runs, tiny_data, tmp_path / "whole")
    shutil.rmtree(folder_of(tiny_profile, own_runs, "shared"))
    lacking = draw(tiny_profile, own_runs, tiny_data, tmp_path / "lacking")
    assert {path.name for path in lacking} == FIGURES
    for path, other in zip(whole, lacking, strict=True):
        assert pixels(path).shape == pixels(other).shape
        assert (pixels(path) != pixels(other)).any()


def test_figures_of_a_profile_that_has_not_run_are_drawn(tiny_profile, tiny_data, tmp_path):
    assert {path.name for path in draw(tiny_profile, tmp_path / "none", tiny_data, tmp_path)} == FIGURES


def test_figures_tell_simulated_data(tiny_profile, runs, tiny_data, tmp_path):
    summary = write_result_set(tiny_profile, runs, tmp_path)
    drawn = {}
    for simulated in (True, False):
        said, folder = summary.assign(simulated=simulated), tmp_path / str(simulated)
        drawn[simulated] = write_figures(tiny_profile, said, runs=runs, data=tiny_data, folder=folder)
    for one, other in zip(drawn[True], drawn[False], strict=True):
        assert one.name == other.name
        assert one.read_bytes() != other.read_bytes()


@pytest.mark.parametrize(("keep", "strips"), [([], 0), (["camera"], 0), (["camera", "blobs"], 1)])
def test_the_strip_shows_the_first_kept_image_that_the_dataset_has(
    tiny_profile_file, runs, tiny_data, tmp_path, keep, strips
):
    said = yaml.safe_load(tiny_profile_file.read_text())
    said["tasks"]["cs"]["evaluation"]["keep"] = keep
    tiny_profile_file.write_text(yaml.safe_dump(said))
    drawn = draw(load_profile(tiny_profile_file), runs, tiny_data, tmp_path)
    assert len([path for path in drawn if path.name.startswith("strip_")]) == strips
    assert (tmp_path / "psnr_parameters_cs_tiny_r25.png").exists()


def test_pretraining_has_no_row_of_its_own(tiny_profile, runs, tmp_path):
    write_result_set(tiny_profile, runs, tmp_path)
    assert PRETRAIN not in set(read_rows(tmp_path / "rows.csv").method)
    assert PRETRAIN not in (tmp_path / "summary.md").read_text().replace("pretraining", "")
