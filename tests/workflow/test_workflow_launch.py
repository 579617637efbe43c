"""`make reproduce` for real: workflow/launch.py with Snakemake, in a copy of the project with a tiny profile."""

import os
import re
import shutil
import time

import pytest
import torch
import yaml
from launched import Launched
from tiny import PROFILE, PROJECT

from lorun import plugins
from lorun.data.checksums import write_manifest
from lorun.physics.block_cs import BlockCS, gaussian_matrix
from lorun.profiles import load_profile
from lorun.profiles.trials import read_trials
from lorun.results.store import read_result_set

pytest.importorskip("snakemake")

# One method of each kind: with a pretrained base, trained alone (it diverges), with released weights.
TINY = {
    "tasks": {
        "cs": {
            "unfolding": {"stages": 2},
            "strategies": ["block1", "lorun"],
            "baselines": ["ista_net"],
            "weights": {"ista_net": {"r25": "released.pkl"}},
            "training": {"steps": 16, "phase1_steps": 8, "validate_every": 4, "learning_rates": {"block1": 1e30}},
        }
    },
}

NOT_COMPARED = "Not compared with committed results: results/tiny is not committed (git rev-parse --show-prefix in "


def snapshot(*places):
    """Every file below, with its content and time of change."""
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_data):
    """A project before its first run. The released weights that one method needs are there; its folder is blocked."""
    project = Launched(tmp_path_factory.mktemp("workflow") / "project", tiny_data, TINY)
    physics = BlockCS(gaussian_matrix(16, 64, 0), initial="adjoint")
    weights = plugins.build("ista_net", physics, 1).state_dict()
    torch.save({f"network.{name}": value for name, value in weights.items()}, project.root / "released.pkl")
    (project.folders()["ista_net"] / ".lock").mkdir(parents=True)
    yield project
    project.close()


@pytest.fixture(scope="module")
def failed_run(made):
    """What the first run printed, and the lines of its runs. One training cannot start, another one diverges."""
    return made.launch(), read_result_set(made.root / "results/tiny").runs.set_index("method")


@pytest.fixture(scope="module")
def repaired_run(made, failed_run):
    """What the second run printed, after the repair; and the files of the runs that had ended before it."""
    assert failed_run[0].returncode == 1
    (made.folders()["ista_net"] / ".lock").rmdir()
    (made.root / "data/.tiny.ok").unlink()  # data that are fetched again make no training out of date
    ended = snapshot(*(made.folders()[name] for name in ("pretrain", "lorun", "block1")))
    return made.launch(), ended


@pytest.fixture(scope="module")
def project(made, repaired_run):
    """The folder of the project after both runs."""
    result, _ = repaired_run
    assert result.returncode == 0, result.stdout + result.stderr
    return made.root


def test_a_table_lists_the_runs_that_failed_and_why(made, failed_run):
    result, runs = failed_run
    place = made.folders()["ista_net"].relative_to(made.root)
    last = result.stderr.splitlines()[-1]
    assert last == "error: some jobs failed (see above and the logs in runs/); results/tiny lists them"
    reason = f"error: cannot write to {place}: Is a directory"
    assert result.stderr.splitlines()[-3:-1] == [
        f"failed: train of cs/r25/ista_net seed 0: {place}/train.log",
        f"    {reason}",
    ]
    assert dict(runs.status) == {"block1": "diverged", "lorun": "completed", "ista_net": "failed"}
    assert runs.message["ista_net"] == reason
    assert reason in result.stdout
    assert "failed 0/1" in result.stdout
    assert result.stdout.count("Traceback") == result.stderr.count("Traceback") == 0


def test_a_complete_run_ends_with_the_table_and_where_it_lies(project, repaired_run):
    result, _ = repaired_run
    results = project / "results/tiny"
    for name in ("rows", "runs", "summary", "claims", "accounting", "curves", "timing"):
        assert (results / f"{name}.csv").stat().st_size > 0
    for name in ("summary.json", "summary.md", "psnr_parameters_cs_tiny_r25.png", "strip_cs_tiny_r25.png"):
        assert (results / name).stat().st_size > 0
    assert '"title":"truth","score":null,"png":"data:image/png;base64,' in (results / "report.html").read_text()
    for text in ("PSNR (dB)", "lorun", "ista_net", "completed 1/1", "diverged 0/1", "results/tiny/summary.md"):
        assert text in result.stdout
    *_, done, compared = result.stdout.splitlines()
    assert re.fullmatch(r"Done in \d+ s: results/tiny", done)
    assert compared.startswith(NOT_COMPARED)
    assert "100%" in result.stderr  # progress
    assert "Traceback" not in result.stderr


def test_runs_that_ended_are_left_alone_and_a_diverged_training_is_a_result(made, project, repaired_run):
    result, ended = repaired_run
    assert "tiny: 6 files verified" in result.stdout
    assert ended == snapshot(*(made.folders()[name] for name in ("pretrain", "lorun", "block1")))
    runs = read_result_set(project / "results/tiny").runs.set_index("method")
    assert dict(runs.status) == {"block1": "diverged", "lorun": "completed", "ista_net": "completed"}
    assert "loss is nan at step" in runs.message["block1"]
    assert (runs.steps["lorun"], runs.steps["ista_net"]) == (16, 0)
    assert runs.checkpoint_policy["ista_net"] == "released"


def test_a_further_run_changes_nothing_and_says_so(made, project):
    before = snapshot(project / "runs", project / "results", project / "data")
    result = made.launch()
    assert result.returncode == 0
    *_, nothing, compared = result.stdout.splitlines()
    assert nothing == "Nothing to do: results/tiny is up to date."
    assert compared.startswith(NOT_COMPARED)
    assert "PSNR (dB)" in result.stdout
    assert snapshot(project / "runs", project / "results", project / "data") == before


def test_files_from_the_future_of_a_wrong_clock_are_no_obstacle(made, project):
    run = made.folders()["lorun"]
    scores = (run / "evaluation.csv").read_bytes()
    (run / "evaluation.csv").unlink()
    tomorrow = time.time() + 86400
    os.utime(run / "training.json", (tomorrow, tomorrow))
    result = made.launch()
    assert result.returncode == 0, result.stdout + result.stderr
    assert (run / "evaluation.csv").read_bytes() == scores


def test_comments_newer_files_and_another_test_set_train_nothing_again(made, project):
    for path in ("lorun/training/loop.py", "lorun/profiles/task.py", "workflow/rules/train.smk", "config/tiny.yaml"):
        with (project / path).open("a") as stream:
            stream.write("\n# a comment\n")
    rule = project / "workflow/rules/train.smk"
    rule.write_text(rule.read_text().replace("lorun train --config", "lorun  train --config"))
    for folder in ("lorun", "workflow", "runs", "data"):
        for path in (project / folder).rglob("*"):
            if "pretrain" in path.parts or path.suffix not in (".json", ".csv"):
                path.touch()
    shutil.copytree(project / "data/tiny", project / "data/more")
    write_manifest(project / "data", "more")
    made.write_profile("wider", {"extends": "tiny.yaml", "tasks": {"cs": {"data": {"test": ["tiny", "more"]}}}})
    jobs = made.dry_run("wider")
    assert "train" not in jobs
    assert "account" not in jobs
    assert (jobs["dataset"], jobs["evaluate"]) == (1, 3)


def test_a_profile_may_have_a_name_that_looks_like_a_number(made):
    made.write_profile("1e3", {"extends": "tiny.yaml", "profile": "1e3"})
    assert "train" not in made.dry_run("1e3")


def test_bases_of_other_settings_and_tasks_are_trained_first(made, project):
    cs = yaml.safe_load((project / "config/tiny.yaml").read_text())["tasks"]["cs"]
    cs |= {"settings": {"r10": {"ratio": 10}}, "strategies": ["lorun", "lorun_transfer", "frozen"]}
    cs["only"] = {"lorun": ["r25"], "ista_net": ["r25"], "frozen": ["r25"]}
    cs["base"] = {"lorun_transfer": {"setting": "r25"}, "frozen": {"task": "denoise", "setting": "gray"}}
    denoise = {**PROFILE["tasks"]["cs"], "physics": {"name": "denoising", "noise": 25}, "settings": {"gray": {}}}
    denoise |= {"strategies": ["block1"], "baselines": []}
    settings = {"extends": "tiny.yaml", "profile": "tasks", "tasks": {"cs": cs, "denoise": denoise}}
    made.write_profile("tasks", settings)
    # lorun of r25 and its base, which is that of lorun_transfer too, are there. To train are lorun_transfer in r10,
    # frozen and the base of it, and block1.
    assert made.dry_run("tasks")["train"] == 4


def test_methods_are_tuned_before_all_else_and_once(made, project):
    grids = {"learning_rates": [1e-4, 1e-3, 1e-2], "adapter_rates": [1, 10, 100], "share": 0.5}
    cs = {"unfolding": {"stages": 2}, "strategies": ["lorun"], "baselines": [], "training": {"tuning": grids}}
    made.write_profile("tuned", {"extends": "base.yaml", "profile": "tuned", "tasks": {"cs": cs}})
    result = made.launch("tuned")
    assert result.returncode == 0, result.stdout + result.stderr
    trials = read_trials(project / "config/tuned/tuned.csv")
    assert [trial.method for trial in trials if not trial.whole] == ["lorun"] * 3 + ["pretrain"] * 3
    assert {trial.method for trial in trials if trial.whole} == {"lorun", "pretrain"}
    experiment = load_profile(project / "config/tuned.yaml").experiment("cs", "r25", "lorun", 0)
    rates = {trial.method: trial.value for trial in trials if trial.chosen}
    assert rates == {"lorun": experiment.training.adapters.rate, "pretrain": experiment.base.training.learning_rate}
    results = read_result_set(project / "results/tuned")
    assert list(results.runs.run) == [experiment.key]
    assert len(results.tuning) == len(trials)
    before = snapshot(project / "config", project / "runs", project / "results")
    assert made.launch("tuned").stdout.splitlines()[-2] == "Nothing to do: results/tuned is up to date."
    assert snapshot(project / "config", project / "runs", project / "results") == before
    choices = project / "config/tuned/tuned.csv"
    text = choices.read_text()
    choices.unlink()  # a lost table is made anew from the trials
    assert made.launch("tuned").returncode == 0
    assert choices.read_text() == text


def test_data_that_cannot_be_restored_are_an_error_before_anything_runs(made, project):
    """No stage makes the dataset `tiny`."""
    image, marker = project / "data/tiny/test/gray/checks.png", project / "data/.tiny.ok"
    content, mark = image.read_bytes(), marker.read_bytes()
    before = snapshot(project / "runs", project / "results")
    image.write_bytes(b"")
    try:
        result = made.launch()
    finally:
        image.write_bytes(content)
    assert result.returncode == 1
    assert "error: dataset 'tiny' has no origin in data/registry.yaml" in result.stdout
    last = "error: failed before any table was written; results/tiny is unchanged"
    assert result.stderr.splitlines()[-1] == last
    assert "Traceback" not in result.stderr
    assert snapshot(project / "runs", project / "results") == before
    assert not marker.exists()
    marker.write_bytes(mark)


def test_mistakes_are_one_line(made, refused):
    message = refused(made.root, "--profile", "tinny")
    assert message.startswith("unknown profile 'config/tinny.yaml'. Did you mean 'config/tiny.yaml'? Choices: ")
    made.write_profile("wrong", {"extends": "tiny.yaml", "sedes": [1]})
    assert refused(made.root, "--profile", "wrong") == "config/wrong.yaml: unknown key `sedes`. Did you mean `seeds`?"
    made.write_profile("blocked", {"extends": "tiny.yaml", "profile": "blocked"})
    (made.root / "results").mkdir(exist_ok=True)
    (made.root / "results/blocked").write_text("a file")
    message = refused(made.root, "--profile", "blocked")
    assert message == "cannot write to results/blocked: File exists; nothing was run"


def test_a_dataset_that_its_user_must_obtain_is_named_before_anything_runs(made, refused):
    shutil.copy(PROJECT / "data/registry.yaml", made.root / "data")
    data = {"train": "tiny", "validation": "tiny", "test": ["tiny", "general100"]}
    made.write_profile("manual", {"extends": "tiny.yaml", "profile": "manual", "tasks": {"cs": {"data": data}}})
    try:
        message = refused(made.root, "--profile", "manual", printed="profile manual: ")
    finally:
        (made.root / "data/registry.yaml").unlink()
    assert message.startswith("dataset 'general100' must be obtained by you")
    assert "`lorun data add general100 --from FOLDER`" in message


def test_a_cluster_that_is_not_there_is_an_error_before_anything_runs(made, refused, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    message = refused(made.root, "--profile", "tiny", "--on", "slurm")
    assert message.startswith("--on slurm needs the programs of Slurm, and `sbatch` is not on PATH")


def test_every_rule_that_may_be_submitted_states_its_memory_and_time():
    for path in (PROJECT / "workflow/rules").glob("*.smk"):
        for rule in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            stated = {name for name in ("mem_mb", "runtime") if f"        {name}=" in rule}
            here = "    localrule: True" in rule or "    shell:" not in rule
            assert stated == {"mem_mb", "runtime"} or here, rule.split(":")[0]
