"""`make reproduce` for real: workflow/launch.py with Snakemake, in a copy of the project with a tiny profile."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from sessions import kill_session, run_session
from tiny import PROFILE, PROJECT

from lorun import plugins
from lorun.data.checksums import write_manifest
from lorun.physics.block_cs import BlockCS, gaussian_matrix
from lorun.profiles import load_profile
from lorun.profiles.trials import read_trials
from lorun.results.store import read_result_set

pytest.importorskip("snakemake")
psutil = pytest.importorskip("psutil")  # Snakemake's own

PATIENCE = 600  # seconds

# One method of each kind: with a pretrained base, trained alone (it diverges), with released weights. Long enough to be
# killed in the middle.
TINY = {
    "extends": "base.yaml",
    "tasks": {
        "cs": {
            "unfolding": {"stages": 2},
            "strategies": ["block1", "lorun"],
            "baselines": ["ista_net"],
            "weights": {"ista_net": {"r25": "released.pkl"}},
            "training": {
                "steps": 160,
                "phase1_steps": 80,
                "checkpoint_every": 5,
                "validate_every": 40,
                "learning_rates": {"block1": 1e30},
            },
        }
    },
}


def make_project(root, tiny_data):
    root.mkdir()
    (root / ".dvc").mkdir()
    for name in ("Snakefile", "dvc.yaml", ".dvc/config"):
        shutil.copy(PROJECT / name, root / name)
    for name in ("workflow", "lorun", "baselines"):
        shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(tiny_data, root / "data")
    write_profile(root, "base", PROFILE)
    write_profile(root, "tiny", TINY)
    physics = BlockCS(gaussian_matrix(16, 64, 0), initial="adjoint")
    weights = plugins.build("ista_net", physics, 1).state_dict()
    torch.save({f"network.{name}": value for name, value in weights.items()}, root / "released.pkl")
    return root


def write_profile(project, name, settings):
    path = project / "config" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(settings))


def environment(project):
    settings = {**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    settings["DVC_SITE_CACHE_DIR"] = str(project.parent / "site-cache")
    settings.pop("PYTHONDONTWRITEBYTECODE", None)  # the copied modules are imported by every job
    return settings


def command(profile, *more):
    return [sys.executable, "workflow/launch.py", "--profile", profile, "--cores", "2", *more]


def launch(project, profile="tiny", *more):
    """Run a launcher to its end."""
    return run_session(command(profile, *more), cwd=project, env=environment(project), patience=PATIENCE)


def dry_run(project, profile="tiny"):
    """How many jobs of each rule would run."""
    result = launch(project, profile, "--", "--dry-run")
    assert result.returncode == 0, result.stderr
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", result.stdout + result.stderr, re.M)}


def folders(project, profile="tiny"):
    """method -> its run's folder."""
    loaded = load_profile(project / "config" / f"{profile}.yaml")
    found = {e.method: project / "runs" / e.folder for e in loaded.experiments()}
    if "lorun" in found:
        base = loaded.experiment("cs", "r25", "lorun", 0).base
        found["pretrain"] = project / "runs" / base.folder
    return found


def snapshot(*places):
    """Every file below, with its content and time of change."""
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def wait_until(condition, process):
    """Wait for `condition()`; fail when `process` ends before, or patience does."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.log.read_text()
        assert time.monotonic() < end, process.log.read_text()
        time.sleep(0.01)


@pytest.fixture
def start(tmp_path):
    """Start a launcher in a session of its own, its output in `.log`; what still lives of it at the end is killed."""
    started = []

    def start_one(project, profile="tiny"):
        log = tmp_path / f"{len(started)}.log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                command(profile),
                cwd=project,
                env=environment(project),
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # it is ignored below some runners
            )
        process.log = log
        started.append(process)
        return process

    yield start_one
    for process in started:
        kill_session(process)


def descendants(process, word):
    """The Python processes below a launcher that run the program `word`."""
    found = []
    for one in psutil.Process(process.pid).children(recursive=True):
        try:
            line = one.cmdline()
        except psutil.NoSuchProcess:
            continue
        if len(line) > 1 and "python" in line[0] and Path(line[1]).name == word:
            found.append(one)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_data):
    """A project before its first run. The released weights that one method needs are there; its folder is blocked."""
    project = make_project(tmp_path_factory.mktemp("workflow") / "project", tiny_data)
    (folders(project)["ista_net"] / ".lock").mkdir(parents=True)
    return project


@pytest.fixture(scope="module")
def failed_run(made):
    """What the first run printed, and the lines of its runs. One training cannot start, another one diverges."""
    return launch(made), read_result_set(made / "results/tiny").runs.set_index("method")


@pytest.fixture(scope="module")
def repaired_run(made, failed_run):
    """What the second run printed, after the repair; and the files of the runs that had ended before it."""
    assert failed_run[0].returncode == 1
    (folders(made)["ista_net"] / ".lock").rmdir()
    (made / "data/.tiny.ok").unlink()  # data that are fetched again make no training out of date
    ended = snapshot(*(folders(made)[name] for name in ("pretrain", "lorun", "block1")))
    return launch(made), ended


@pytest.fixture(scope="module")
def project(made, repaired_run):
    """The project after both runs."""
    result, _ = repaired_run
    assert result.returncode == 0, result.stdout + result.stderr
    return made


def test_a_table_lists_the_runs_that_failed_and_why(made, failed_run):
    result, runs = failed_run
    place = folders(made)["ista_net"].relative_to(made)
    last = result.stderr.splitlines()[-1]
    assert last == "error: some jobs failed (see above and the logs in runs/); results/tiny lists them"
    reason = f"error: cannot write to {place}: Is a directory"
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
    assert re.fullmatch(r"Done in \d+ s: results/tiny", result.stdout.splitlines()[-1])
    assert "100%" in result.stderr  # progress
    assert "Traceback" not in result.stderr


def test_runs_that_ended_are_left_alone_and_a_diverged_training_is_a_result(project, repaired_run):
    result, ended = repaired_run
    assert "tiny: 6 files verified" in result.stdout
    assert ended == snapshot(*(folders(project)[name] for name in ("pretrain", "lorun", "block1")))
    runs = read_result_set(project / "results/tiny").runs.set_index("method")
    assert dict(runs.status) == {"block1": "diverged", "lorun": "completed", "ista_net": "completed"}
    assert "loss is nan at step" in runs.message["block1"]
    assert (runs.steps["lorun"], runs.steps["ista_net"]) == (160, 0)
    assert runs.checkpoint_policy["ista_net"] == "released"


def test_a_further_run_changes_nothing_and_says_so(project):
    before = snapshot(project / "runs", project / "results", project / "data")
    result = launch(project)
    assert result.returncode == 0
    assert result.stdout.splitlines()[-1] == "Nothing to do: results/tiny is up to date."
    assert "PSNR (dB)" in result.stdout
    assert snapshot(project / "runs", project / "results", project / "data") == before


def test_comments_newer_files_and_another_test_set_train_nothing_again(project):
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
    write_profile(project, "wider", {"extends": "tiny.yaml", "tasks": {"cs": {"data": {"test": ["tiny", "more"]}}}})
    jobs = dry_run(project, "wider")
    assert "train" not in jobs
    assert "account" not in jobs
    assert (jobs["dataset"], jobs["evaluate"]) == (1, 3)


def test_bases_of_other_settings_and_tasks_are_trained_first(project):
    cs = yaml.safe_load((project / "config/tiny.yaml").read_text())["tasks"]["cs"]
    cs |= {"settings": {"r10": {"ratio": 10}}, "strategies": ["lorun", "lorun_transfer", "frozen"]}
    cs["only"] = {"lorun": ["r25"], "ista_net": ["r25"], "frozen": ["r25"]}
    cs["base"] = {"lorun_transfer": {"setting": "r25"}, "frozen": {"task": "denoise", "setting": "gray"}}
    denoise = {**PROFILE["tasks"]["cs"], "physics": {"name": "denoising", "noise": 25}, "settings": {"gray": {}}}
    denoise |= {"strategies": ["block1"], "baselines": []}
    settings = {"extends": "tiny.yaml", "profile": "tasks", "tasks": {"cs": cs, "denoise": denoise}}
    write_profile(project, "tasks", settings)
    # lorun of r25 and its base, which is that of lorun_transfer too, are there. To train are lorun_transfer in r10,
    # frozen and the base of it, and block1.
    assert dry_run(project, "tasks")["train"] == 4


def test_methods_are_tuned_before_all_else_and_once(project):
    grids = {"learning_rates": [1e-4, 1e-3, 1e-2], "adapter_rates": [1, 10, 100], "share": 0.5}
    cs = {"unfolding": {"stages": 2}, "strategies": ["lorun"], "baselines": [], "training": {"tuning": grids}}
    write_profile(project, "tuned", {"extends": "base.yaml", "profile": "tuned", "tasks": {"cs": cs}})
    result = launch(project, "tuned")
    assert result.returncode == 0, result.stdout + result.stderr
    trials = read_trials(project / "config/tuned/tuned.csv")
    assert [trial.method for trial in trials] == ["lorun"] * 3 + ["pretrain"] * 3
    experiment = load_profile(project / "config/tuned.yaml").experiment("cs", "r25", "lorun", 0)
    rates = {trial.method: trial.value for trial in trials if trial.chosen}
    assert rates == {"lorun": experiment.training.adapters.rate, "pretrain": experiment.base.training.learning_rate}
    results = read_result_set(project / "results/tuned")
    assert list(results.runs.run) == [experiment.key]
    assert len(results.tuning) == 6
    before = snapshot(project / "config", project / "runs", project / "results")
    assert launch(project, "tuned").stdout.splitlines()[-1] == "Nothing to do: results/tuned is up to date."
    assert snapshot(project / "config", project / "runs", project / "results") == before
    choices = project / "config/tuned/tuned.csv"
    text = choices.read_text()
    choices.unlink()  # a lost table is made anew from the trials
    assert launch(project, "tuned").returncode == 0
    assert choices.read_text() == text


def test_data_that_cannot_be_restored_are_an_error_before_anything_runs(project):
    """No stage makes the dataset `tiny`."""
    image, marker = project / "data/tiny/test/gray/checks.png", project / "data/.tiny.ok"
    content, mark = image.read_bytes(), marker.read_bytes()
    before = snapshot(project / "runs", project / "results")
    image.write_bytes(b"")
    try:
        result = launch(project)
    finally:
        image.write_bytes(content)
    assert result.returncode == 1
    assert "error: dataset 'tiny' has no origin in data/registry.yaml" in result.stdout
    last = "error: failed before any table was written (see above); results/tiny is unchanged"
    assert result.stderr.splitlines()[-1] == last
    assert "Traceback" not in result.stderr
    assert snapshot(project / "runs", project / "results") == before
    assert not marker.exists()
    marker.write_bytes(mark)


@pytest.fixture
def refused(made, monkeypatch, capsys, tmp_path):
    """Run a launcher in this process; it must end with status 1 and one line on stderr, which is returned."""
    spec = importlib.util.spec_from_file_location("launch", made / "workflow/launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)  # the launcher goes elsewhere: come back
    monkeypatch.setenv("PATH", os.environ["PATH"])

    def refused(*options, root=made, printed=""):
        monkeypatch.setattr(module, "ROOT", root)
        monkeypatch.setattr(sys, "argv", ["launch.py", *options])
        assert module.main() == 1
        out, err = capsys.readouterr()
        assert out.startswith(printed)
        assert out.count("\n") == (1 if printed else 0)
        assert err.count("\n") == 1
        return err.removeprefix("error: ").removesuffix("\n")

    return refused


def test_mistakes_are_one_line(made, refused):
    message = refused("--profile", "tinny")
    assert message.startswith("unknown profile 'config/tinny.yaml'. Did you mean 'config/tiny.yaml'? Choices: ")
    write_profile(made, "wrong", {"extends": "tiny.yaml", "sedes": [1]})
    assert refused("--profile", "wrong") == "config/wrong.yaml: unknown key `sedes`. Did you mean `seeds`?"
    (made / "blocked").write_text("a file")
    message = refused("--profile", "tiny", "--results", "blocked/results")
    assert message == "cannot write to blocked/results: Not a directory; nothing was run"


def test_a_dataset_that_its_user_must_obtain_is_named_before_anything_runs(made, refused):
    shutil.copy(PROJECT / "data/registry.yaml", made / "data")
    data = {"train": "tiny", "validation": "tiny", "test": ["tiny", "general100"]}
    write_profile(made, "manual", {"extends": "tiny.yaml", "profile": "manual", "tasks": {"cs": {"data": data}}})
    try:
        message = refused("--profile", "manual", printed="profile manual: ")
    finally:
        (made / "data/registry.yaml").unlink()
    assert message.startswith("dataset 'general100' must be obtained by you")
    assert "`lorun data add general100 --from FOLDER`" in message


def test_killed_and_interrupted_runs_end_with_the_same_bytes(project, tiny_data, tmp_path, start, refused):
    killed = make_project(tmp_path / "killed", tiny_data)
    # To save time, everything but the training of lorun and of its base is there already.
    shutil.copytree(project / "runs", killed / "runs", ignore=shutil.ignore_patterns("seed*"))
    shutil.copy(project / "data/.tiny.ok", killed / "data")
    for method in ("block1", "ista_net"):
        shutil.copytree(folders(project)[method], folders(killed)[method])
    runs = folders(killed)

    # kill -9 of the launcher, then of Snakemake: a training lives on.
    first = start(killed)
    wait_until((runs["pretrain"] / "checkpoint.pt").exists, first)
    orphans = descendants(first, "lorun")
    for orphan in orphans:
        orphan.suspend()
    (snakemake,) = descendants(first, "snakemake")
    first.kill()
    first.wait()
    message = refused("--profile", "tiny", root=killed)  # Snakemake outlives its launcher and still is at work
    assert message.startswith(f"another `make reproduce` runs in this checkout (process {snakemake.pid})")
    snakemake.kill()
    snakemake.wait()
    assert not (runs["pretrain"] / "training.json").exists()
    assert list((killed / ".snakemake/locks").iterdir())

    # The next launcher waits for that training, and resumes it after kill -9. Then Ctrl-C, as in a terminal.
    second = start(killed)
    wait_until(lambda: "cs/r25/pretrain seed 0: another process is training this run" in second.log.read_text(), second)
    assert "cs/r25/pretrain seed 0: step" not in second.log.read_text()
    kill_session(first)
    wait_until((runs["lorun"] / "checkpoint.pt").exists, second)
    below = psutil.Process(second.pid).children(recursive=True)
    os.killpg(second.pid, signal.SIGINT)
    assert second.wait(PATIENCE) == 130
    printed = second.log.read_text()
    assert re.search(r"^cs/r25/pretrain seed 0: step [1-9]\d*/80: resumes$", printed, re.M)
    assert printed.splitlines()[-1] == "Interrupted. Finished work is kept; run the same command to continue."
    assert "launch.py" not in printed  # no traceback of it
    assert not psutil.wait_procs(below, timeout=10)[1]
    assert not (runs["lorun"] / "training.json").exists()
    assert not (killed / "results/tiny/rows.csv").exists()

    result = launch(killed)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"^cs/r25/lorun seed 0: step [1-9]\d*/80: resumes$", result.stdout, re.M)
    for name in ("rows.csv", "summary.csv", "summary.md", "claims.csv", "curves.csv", "strip_cs_tiny_r25.png"):
        assert (killed / "results/tiny" / name).read_bytes() == (project / "results/tiny" / name).read_bytes(), name
    assert not list(killed.rglob("*.part"))
