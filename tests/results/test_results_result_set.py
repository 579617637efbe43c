"""The folder of tables and figures that a profile gives, from made-up runs: whole, in part, and kept."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from made_up import CODE, code_ids, write_account, write_runs, write_scores
from PIL import Image

from lorun.errors import LorunError
from lorun.evaluation.kept import image_path
from lorun.profiles import Profile, load_profile
from lorun.results import result_set
from lorun.results.figures import write_figures
from lorun.results.markdown import write_pages
from lorun.results.paths import EVALUATION, account_path
from lorun.results.result_set import write_result_set
from lorun.results.store import read_result_set

TABLES = {
    *(f"{name}.csv" for name in ("runs", "rows", "accounting", "trainings", "timing", "curves", "tuning")),
    *("summary.csv", "degradations.csv", "differences.csv", "claims.csv", "comparison.csv"),
    *("summary.json", "summary.md", "details.md", "code.json", "version.json"),
}
FIGURES = {"psnr_parameters_cs_tiny_r25.png", "strip_cs_tiny_r25.png"}


@pytest.fixture
def runs(tiny_profile: Profile, tmp_path: Path) -> Path:
    return write_runs(tiny_profile, tmp_path / "runs", "checks", "blobs")


@pytest.fixture
def profile_without_shared(tiny_profile: Profile, tiny_profile_file: Path) -> Profile:
    methods = [method for method in tiny_profile.tasks["cs"].strategies if method != "shared"]
    return changed(tiny_profile_file, strategies=methods)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def folder_of(profile: Profile, runs: Path, method: str) -> Path:
    return runs / profile.experiment("cs", "r25", method, 0).folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def changed(profile_file: Path, **task: object) -> Profile:
    """The profile with parts of its task replaced."""
    content = yaml.safe_load(profile_file.read_text())
    content["tasks"]["cs"].update(task)
    profile_file.write_text(yaml.safe_dump(content))
    return load_profile(profile_file)


def test_the_set_is_complete_and_says_where_it_comes_from(tiny_profile, runs, out):
    summary = write_result_set(tiny_profile, runs, out)
    assert set(contents(out)) == TABLES
    found = read_result_set(out)
    methods = tiny_profile.tasks["cs"].methods
    pd.testing.assert_frame_equal(found.summary, summary)
    assert summary.method.tolist() == methods * 2
    assert len(found.rows) == len(methods) * 2 * 2 * 2  # images, protocols, metrics
    for table in (found.runs, found.accounting, found.trainings, found.curves):
        assert table.method.tolist() == methods
    runs_table = found.runs.drop(columns=["message", "accepted"])
    assert runs_table.notna().all(axis=None)
    assert dict(zip(found.runs.method, found.runs.run, strict=True)) == {
        e.method: e.key for e in tiny_profile.experiments()
    }
    assert set(found.code) == code_ids()
    assert found.code[found.runs.trained_code[0]] == found.code[found.accounting.code[0]] == CODE
    assert set(found.code[found.runs.code[0]]) == {"lorun.system"}
    assert len(found.claims) == 4
    assert found.version is not None
    assert set(found.version.files) == {name for name in TABLES if name.endswith(".csv")} | {"code.json"}


def test_times_are_in_the_table_of_times_only(tiny_profile, runs, out):
    write_result_set(tiny_profile, runs, out)
    timing = read_result_set(out).timing
    methods = tiny_profile.tasks["cs"].methods
    assert timing.what.tolist() == ["reconstruction latency"] * len(methods) + ["training"] * len(methods)
    assert timing.method.tolist() == methods * 2
    assert set(timing.median_ms.dropna()) == {1.25}
    assert set(timing.seconds.dropna()) == {1.5}
    assert all("latency" not in (out / name).read_text() for name in TABLES - {"timing.csv"})


def test_an_account_without_a_measured_latency_has_no_time(tiny_profile, runs, out):
    path = account_path(runs, tiny_profile.experiment("cs", "r25", "shared", 0))
    account = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in account.items() if not name.startswith("latency")}))
    write_result_set(tiny_profile, runs, out)
    timing = read_result_set(out).timing
    assert timing[timing.method == "shared"].what.tolist() == ["training"]


def test_a_training_that_does_not_say_what_moved_is_unknown(tiny_profile, runs, out):
    path = folder_of(tiny_profile, runs, "lorun") / "training.json"
    outcome = json.loads(path.read_text())
    outcome["unmoved"] = None
    path.write_text(json.dumps(outcome))
    write_result_set(tiny_profile, runs, out)
    unmoved = read_result_set(out).trainings.set_index("method").unmoved
    assert pd.isna(unmoved["lorun"])
    assert unmoved["block_k"] == 0


def test_writing_again_gives_the_same_bytes(tiny_profile, runs, out):
    write_result_set(tiny_profile, runs, out)
    before = contents(out)
    write_result_set(tiny_profile, runs, out)
    assert contents(out) == before


def test_the_json_twin_holds_numbers_and_null_and_dvc_reads_it(tiny_profile, runs, out):
    summary = write_result_set(tiny_profile, runs, out)
    metrics = json.loads((out / "summary.json").read_text())["cs"]["tiny"]["r25"]["cs_round_y"]
    assert list(metrics) == tiny_profile.tasks["cs"].methods
    expected = summary[(summary.method == "shared") & (summary.protocol == "cs_round_y")].iloc[0]
    shared = metrics["shared"]
    assert (shared["psnr"], shared["step_total"], shared["psnr_sd"]) == (expected.psnr, expected.step_total, None)
    assert all(value is None or type(value) in (int, float) for name, value in shared.items() if name != "status")
    pytest.importorskip("dvc")
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "--quiet"], cwd=out, check=True, capture_output=True)
    command = [*dvc, "metrics", "show", "--json", "summary.json"]
    shown = json.loads(subprocess.run(command, cwd=out, check=True, capture_output=True, text=True).stdout)
    (read,) = shown[""]["data"].values()
    assert read["data"]["cs"]["tiny"]["r25"]["cs_round_y"]["shared"].items() <= shared.items()


@pytest.mark.parametrize("what", ["evaluated", "accounted"])
def test_what_is_missing_is_named_and_nothing_is_written(tiny_profile, runs, out, what):
    experiment = tiny_profile.experiment("cs", "r25", "shared", 0)
    (runs / experiment.folder / EVALUATION if what == "evaluated" else account_path(runs, experiment)).unlink()
    with pytest.raises(LorunError, match=f"cs/r25/shared seed 0 is not {what} .*: run `lorun"):
        write_result_set(tiny_profile, runs, out)
    assert not out.exists()


def test_in_part_a_missing_run_has_a_status_and_a_reason(tiny_profile, runs, out):
    progress = "cs/r25/shared_sigma seed 0: step 4/8: loss 0.1\n"
    for method, trained, train_log, evaluate_log in [
        ("shared", False, "starts\n\nerror: no base\n", "error: long ago\n"),
        ("block_k", True, "fine\n", "Traceback\nerror: no weights\n"),
        ("shared_sigma", False, progress, None),  # interrupted
    ]:
        folder = folder_of(tiny_profile, runs, method)
        (folder / EVALUATION).unlink()
        if not trained:
            (folder / "training.json").unlink()
        for name, text in (("train.log", train_log), ("evaluate.log", evaluate_log)):
            if text is not None:
                (folder / name).write_text(text)
    shutil.rmtree(folder_of(tiny_profile, runs, "lorun"))
    account_path(runs, tiny_profile.experiment("cs", "r25", "lorun", 0)).unlink()
    summary = write_result_set(tiny_profile, runs, out, partial=True)
    found = read_result_set(out)
    lines = found.runs.set_index("method")
    assert lines.status.to_dict() == {
        **dict.fromkeys(tiny_profile.tasks["cs"].methods, "completed"),
        "shared": "failed",
        "block_k": "failed",
        "shared_sigma": "not_run",
        "lorun": "not_run",
    }
    assert lines.message.dropna().to_dict() == {"shared": "error: no base", "block_k": "error: no weights"}
    assert lines.run.notna().all()
    assert not set(found.rows.method) & {"shared", "block_k", "shared_sigma", "lorun"}
    assert dict(zip(summary.method, summary.status, strict=True)) == lines.status.to_dict()


def test_in_part_before_any_run_nothing_is_run(tiny_profile, out, tmp_path):
    summary = write_result_set(tiny_profile, tmp_path / "none", out, partial=True)
    assert set(summary.status) == set(read_result_set(out).runs.status) == {"not_run"}
    assert set(contents(out)) == TABLES


def test_a_diverged_training_has_a_line_and_no_rows(tiny_profile, runs, out):
    experiment = tiny_profile.experiment("cs", "r25", "block1", 0)
    write_scores(experiment, runs, [], 0, status="diverged", message="loss is nan", scored_step=None)
    summary = write_result_set(tiny_profile, runs, out)
    line = read_result_set(out).runs.set_index("method").loc["block1"]
    assert (line.status, line.message) == ("diverged", "loss is nan")
    assert set(summary[summary.method == "block1"].status) == {"diverged"}
    assert summary[summary.method == "block1"].psnr.isna().all()


def test_what_the_set_holds_of_runs_that_are_not_here_is_kept(tiny_profile, runs, out, tiny_data, tmp_path):
    draw(tiny_profile, runs, tiny_data, out)
    before = contents(out)
    summary = write_result_set(tiny_profile, tmp_path / "none", out, data=tiny_data, keep=True)
    write_figures(tiny_profile, summary, runs=tmp_path / "none", data=tiny_data, folder=out)
    assert contents(out) == before

    here = tmp_path / "here"  # only one method; the rest is kept
    shutil.copytree(folder_of(tiny_profile, runs, "shared"), folder_of(tiny_profile, here, "shared"))
    write_account(tiny_profile.experiment("cs", "r25", "shared", 0), here, 102)
    write_result_set(tiny_profile, here, out, data=tiny_data, keep=True)
    assert read_result_set(out).rows.equals(read_result_set(out).rows)
    assert {name for name, content in contents(out).items() if content != before[name]} <= {"timing.csv"}


def test_only_results_of_the_same_configuration_are_kept(tiny_profile_file, runs, out, tmp_path):
    write_result_set(load_profile(tiny_profile_file), runs, out)
    training = yaml.safe_load(tiny_profile_file.read_text())["tasks"]["cs"]["training"]
    other = changed(tiny_profile_file, training={**training, "learning_rates": {"shared": 0.5}})
    with pytest.raises(LorunError, match="cs/r25/shared seed 0 is not"):
        write_result_set(other, tmp_path / "none", out, keep=True)
    for _ in range(2):  # a run without a result is not kept: it is asked for again
        write_result_set(other, tmp_path / "none", out, partial=True, keep=True)
        status = read_result_set(out).runs.set_index("method").status
        assert status.pop("shared") == "not_run"
        assert set(status) == {"completed"}
        with pytest.raises(LorunError, match="cs/r25/shared seed 0 is not"):
            write_result_set(other, tmp_path / "none", out, keep=True)


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
def test_the_registry_says_what_is_simulated(tiny_profile, tmp_path, out, simulated):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/registry.yaml").write_text(REGISTRY.format(str(simulated).lower()))
    write_result_set(tiny_profile, tmp_path / "none", out, partial=True, data=tmp_path / "data")
    assert set(read_result_set(out).summary.simulated) == {simulated}
    for page in ("summary.md", "details.md"):
        assert ("tiny (simulated)" in (out / page).read_text()) == simulated


# Figures


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        image.load()
        return np.asarray(image.convert("L"))


def draw(profile: Profile, runs: Path, data: Path, folder: Path) -> list[Path]:
    summary = write_result_set(profile, runs, folder, partial=True)
    return write_figures(profile, summary, runs=runs, data=data, folder=folder)


def test_figures_are_drawn_with_the_same_bytes_each_time_and_show_what_is_missing(
    tiny_profile, runs, tiny_data, tmp_path
):
    first, second = (draw(tiny_profile, runs, tiny_data, tmp_path / name) for name in ("first", "second"))
    assert {path.name for path in first} == FIGURES
    for path, again in zip(first, second, strict=True):
        assert path.read_bytes() == again.read_bytes()
        assert len(np.unique(pixels(path))) > 20  # something is drawn
    image_path(folder_of(tiny_profile, runs, "shared"), "tiny", "checks").unlink()
    (folder_of(tiny_profile, runs, "shared") / EVALUATION).unlink()
    for path, other in zip(first, draw(tiny_profile, runs, tiny_data, tmp_path / "lacking"), strict=True):
        assert pixels(path).shape == pixels(other).shape
        assert (pixels(path) != pixels(other)).any()


def test_a_strip_is_not_drawn_anew_without_the_images_of_methods_that_have_a_score(
    tiny_profile, runs, out, tiny_data, tmp_path
):
    draw(tiny_profile, runs, tiny_data, out)
    strip = out / "strip_cs_tiny_r25.png"
    before = strip.read_bytes()
    here = tmp_path / "here"  # another machine, with one of the runs
    shutil.copytree(folder_of(tiny_profile, runs, "shared"), folder_of(tiny_profile, here, "shared"))
    write_result_set(tiny_profile, here, out, data=tiny_data, keep=True, forms=["png"])
    assert strip.read_bytes() == before
    write_result_set(tiny_profile, here, out, partial=True, data=tiny_data, forms=["png"])  # the others have no score
    assert strip.read_bytes() != before


def test_tables_and_figures_appear_together(tiny_profile, runs, out, tiny_data, monkeypatch):
    write_result_set(tiny_profile, runs, out, data=tiny_data, forms=["png"])
    before = contents(out)
    assert set(before) >= FIGURES
    write_scores(tiny_profile.experiment("cs", "r25", "shared", 0), runs, ["checks", "blobs"], 12.5)

    def fail(*_, **__):
        raise LorunError("cannot write: the disk is full")

    monkeypatch.setattr(result_set, "write_figures", fail)
    with pytest.raises(LorunError, match="the disk is full"):
        write_result_set(tiny_profile, runs, out, data=tiny_data, forms=["png"])
    assert contents(out) == before


def test_figures_say_that_data_are_simulated(tiny_profile, runs, out, tiny_data, tmp_path):
    summary = write_result_set(tiny_profile, runs, out)
    first, second = (
        write_figures(
            tiny_profile, summary.assign(simulated=one), runs=runs, data=tiny_data, folder=tmp_path / str(one)
        )
        for one in (True, False)
    )
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("keep", "strips"), [([], 0), (["camera"], 0), (["camera", "blobs"], 1)])
def test_the_strip_shows_the_first_kept_image_that_the_dataset_has(
    tiny_profile_file, tiny_data, tmp_path, out, keep, strips
):
    evaluation = yaml.safe_load(tiny_profile_file.read_text())["tasks"]["cs"]["evaluation"]
    profile = changed(tiny_profile_file, evaluation={**evaluation, "keep": keep})
    write_runs(profile, tmp_path / "runs", "checks", "blobs")
    drawn = [path.name for path in draw(profile, tmp_path / "runs", tiny_data, out)]
    assert drawn == ["psnr_parameters_cs_tiny_r25.png", "strip_cs_tiny_r25.png"][: 1 + strips]


def test_a_strip_stays_where_runs_or_data_are_missing(tiny_profile, runs, out, tiny_data, tmp_path):
    draw(tiny_profile, runs, tiny_data, out)
    before = contents(out)
    summary = read_result_set(out).summary
    image_path(folder_of(tiny_profile, runs, "shared"), "tiny", "checks").unlink()
    for here, data in ((runs, tiny_data), (tmp_path / "none", tiny_data), (runs, tmp_path / "no data")):
        written = write_figures(tiny_profile, summary, runs=here, data=data, folder=out)
        assert [path.name for path in written] == ["psnr_parameters_cs_tiny_r25.png"]
        assert contents(out) == before


def test_figures_of_what_the_profile_no_longer_has_stay(tiny_profile, runs, out, tiny_data, profile_without_shared):
    draw(tiny_profile, runs, tiny_data, out)
    before = contents(out)
    summary = read_result_set(out).summary
    write_figures(profile_without_shared, summary, runs=runs, data=tiny_data, folder=out)
    assert contents(out) == before
    assert write_figures(tiny_profile, summary.assign(task="gone"), runs=runs, data=tiny_data, folder=out) == []


def test_pdf_figures_are_the_same_bytes_each_time(tiny_profile, runs, tiny_data, tmp_path):
    summary = write_result_set(tiny_profile, runs, tmp_path / "out")
    places = {"runs": runs, "data": tiny_data, "form": "pdf"}
    first, second = (
        write_figures(tiny_profile, summary, folder=tmp_path / name, **places) for name in ("first", "second")
    )
    assert {path.with_suffix(".png").name for path in first} == FIGURES
    for path, again in zip(first, second, strict=True):
        assert path.read_bytes() == again.read_bytes()
        assert path.read_bytes().startswith(b"%PDF-")


# Pages again from the tables


def test_pages_are_made_again_and_no_table_changes(tiny_profile, runs, out, tmp_path):
    write_result_set(tiny_profile, runs, out)
    before = contents(out)
    (out / "summary.md").write_text("old")
    (out / "details.md").unlink()
    write_pages(tiny_profile, out, out)
    assert contents(out) == before
    write_pages(tiny_profile, out, tmp_path / "elsewhere")
    assert set(contents(tmp_path / "elsewhere")) == {"summary.md", "details.md"}
