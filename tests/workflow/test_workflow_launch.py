"""`make reproduce` for real: workflow/launch.py with Snakemake, in a copy of the project with a tiny profile."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from lorun.results.rows import read_rows
from sessions import kill_session, run_session
from tiny import PROFILE, PROJECT

from lorun.data.checksums import write_manifest
from lorun.profiles import load_profile

pytest.importorskip("snakemake")
psutil = pytest.importorskip("psutil")  # Snakemake's own

TABLES = ("rows", "summary", "claims", "accounting", "curves", "timing")
PATIENCE = 200  # seconds

# Few methods, one each that is pretrained, trained and not trained; long enough to be killed in the middle.
TINY = {
    "extends": "base.yaml",
    "tasks": {
        "cs": {
            "unfolding": {"stages": 2},
            "strategies": ["block1", "lorun"],
            "training": {"steps": 160, "phase1_steps": 80, "checkpoint_every": 5, "validate_every": 40},
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
    return root


def write_profile(project, name, said):
    path = project / "config" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(said))


def environment(project):
    said = {**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    said["DVC_SITE_CACHE_DIR"] = str(project.parent / "site-cache")
    said.pop("PYTHONDONTWRITEBYTECODE", None)  # the copied modules are imported by every job
    return said


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


def wait_until(degradation, process):
    """Wait for `degradation()`; fail when `process` ends before, or patience does."""
    end = time.monotonic() + PATIENCE
    while not degradation():
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
def first_run(tmp_path_factory, tiny_data):
    """A project after its first complete run, and what that printed."""
    project = make_project(tmp_path_factory.mktemp("workflow") / "project", tiny_data)
    return project, launch(project)


@pytest.fixture(scope="module")
def project(first_run):
    project, result = first_run
    assert result.returncode == 0, result.stdout + result.stderr
    return project


def test_a_complete_run_ends_with_the_table_and_where_it_lies(first_run):
    project, result = first_run
    assert result.returncode == 0, result.stdout + result.stderr
    results = project / "results/tiny"
    for name in TABLES:
        assert (results / f"{name}.csv").stat().st_size > 0
    for name in ("summary.json", "summary.md", "psnr_parameters_cs_tiny_r25.png", "strip_cs_tiny_r25.png"):
        assert (results / name).stat().st_size > 0
    assert '"title":"truth","score":null,"png":"data:image/png;base64,' in (results / "report.html").read_text()
    rows = read_rows(results / "rows.csv")
    assert set(rows.method) == {"block1", "lorun", "linear_mmse"}
    assert set(rows.status) == {"completed"}
    for text in ("PSNR (dB)", "lorun", "linear_mmse", "completed 1/1", "results/tiny/summary.md"):
        assert text in result.stdout
    assert re.fullmatch(r"Done in \d+ s: results/tiny", result.stdout.splitlines()[-1])
    assert "100%" in result.stderr  # progress
    assert "Traceback" not in result.stderr


def test_a_second_run_changes_nothing_and_says_so(project):
    before = snapshot(project / "runs", project / "results", project / "data")
    result = launch(project)
    assert result.returncode == 0
    assert result.stdout.splitlines()[-1] == "Nothing to do: results/tiny is up to date."
    assert "PSNR (dB)" in result.stdout
    assert snapshot(project / "runs", project / "results", project / "data") == before


def test_comments_and_newer_files_train_nothing_again(project):
    for path in ("lorun/training/loop.py", "lorun/config/profile.py", "workflow/rules/train.smk", "config/tiny.yaml"):
        with (project / path).open("a") as stream:
            stream.write("\n# a comment\n")
    rule = project / "workflow/rules/train.smk"
    rule.write_text(rule.read_text().replace("lorun train --config", "lorun  train --config"))
    for folder in ("lorun", "workflow", "runs", "data"):
        for path in (project / folder).rglob("*"):
            if "pretrain" in path.parts or path.suffix not in (".json", ".csv"):
                path.touch()
    assert "train" not in dry_run(project)


def test_another_learning_rate_trains_beside_the_old_runs(project):
    """The dry run; that the old runs stay is shown by the diverged run."""
    write_profile(project, "other", {"extends": "tiny.yaml", "tasks": {"cs": {"training": {"learning_rate": 1e-3}}}})
    jobs = dry_run(project, "other")
    assert (jobs["train"], jobs["evaluate"]) == (4, 3)
    assert "account" not in jobs  # parameters and bytes are the same
    old, new = folders(project), folders(project, "other")
    assert not set(old.values()) & set(new.values())


def test_another_test_set_is_scored_but_trains_nothing_again(project):
    shutil.copytree(project / "data/tiny", project / "data/more")
    write_manifest(project / "data", "more")
    write_profile(project, "wider", {"extends": "tiny.yaml", "tasks": {"cs": {"data": {"test": ["tiny", "more"]}}}})
    jobs = dry_run(project, "wider")
    assert "train" not in jobs
    assert (jobs["dataset"], jobs["evaluate"]) == (1, 3)


def test_released_weights_take_the_place_of_a_training(project):
    import torch

    from lorun import plugins
    from lorun.physics.block_cs import BlockCS, gaussian_matrix

    physics = BlockCS(gaussian_matrix(16, 64, 0), initial="adjoint")
    state = {f"network.{name}": value for name, value in plugins.build("ista_net", physics, 1).state_dict().items()}
    torch.save(state, project / "released.pkl")
    said = {"strategies": [], "baselines": ["ista_net"], "weights": {"ista_net": {"r25": "released.pkl"}}}
    write_profile(project, "released", {"extends": "tiny.yaml", "profile": "released", "tasks": {"cs": said}})
    result = launch(project, "released")
    assert result.returncode == 0, result.stdout + result.stderr
    rows = read_rows(project / "results/released/rows.csv")
    assert set(rows.checkpoint_policy) == {"released"}
    assert set(rows.status) == {"completed"}
    assert set(rows.steps) == {0}
    assert "ista_net" in result.stdout


def test_a_dataset_that_its_user_must_obtain_is_told_before_anything_runs(project):
    shutil.copy(PROJECT / "data/registry.yaml", project / "data")
    data = {"train": "tiny", "validation": "tiny", "test": ["tiny", "general100"]}
    write_profile(project, "manual", {"extends": "tiny.yaml", "profile": "manual", "tasks": {"cs": {"data": data}}})
    before = snapshot(project / "runs")
    result = launch(project, "manual")
    (project / "data/registry.yaml").unlink()
    assert result.returncode == 1
    assert "dataset 'general100' must be obtained by you" in result.stderr
    assert "`lorun data add general100 --from FOLDER`" in result.stderr
    assert "Traceback" not in result.stderr
    assert snapshot(project / "runs") == before


def test_data_alone_can_be_asked_for(project):
    (project / "data/.tiny.ok").unlink()
    before = snapshot(project / "runs", project / "results")
    result = launch(project, "tiny", "--", "data")
    assert result.returncode == 0, result.stderr
    assert "tiny: 6 files verified" in result.stdout
    assert "PSNR" not in result.stdout
    assert (project / "data/.tiny.ok").read_text().strip().endswith(".dir")
    assert snapshot(project / "runs", project / "results") == before


def test_data_that_cannot_be_had_are_an_error_that_names_them(project):
    """No stage builds the tiny dataset, so that nothing restores it."""
    image = project / "data/tiny/test/gray/checks.png"
    content = image.read_bytes()
    before = snapshot(project / "runs", project / "results")
    image.write_bytes(b"")
    try:
        result = launch(project)
    finally:
        image.write_bytes(content)
    assert result.returncode != 0
    assert "error: cannot restore dataset 'tiny'" in result.stdout
    last = "error: failed before any table was written (see above); results/tiny is unchanged"
    assert result.stderr.splitlines()[-1] == last
    assert snapshot(project / "runs", project / "results") == before
    assert not (project / "data/.tiny.ok").exists()


def test_an_unknown_profile_is_one_line_with_the_near_name(project):
    result = launch(project, "tinny")
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(
        r"error: unknown profile 'config/tinny\.yaml'\. Did you mean 'config/tiny\.yaml'\? Choices: .*\n", result.stderr
    )


def test_a_results_folder_that_cannot_be_written_is_told_before_anything_runs(project):
    (project / "blocked").write_text("a file")
    result = launch(project, "tiny", "--results", "blocked/results")
    assert result.returncode == 1
    assert result.stderr.splitlines() == ["error: cannot write to blocked/results: Not a directory; nothing was run"]


def test_a_mistake_in_a_profile_is_one_line(project):
    write_profile(project, "wrong", {"extends": "tiny.yaml", "sedes": [1]})
    result = launch(project, "wrong")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: config/wrong.yaml: unknown key `sedes`. Did you mean `seeds`?\n"


def test_two_launchers_do_not_run_at_once(project):
    with (project / ".snakemake/launch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        print(1234, end="", file=lock, flush=True)
        result = launch(project)
    assert (result.returncode, result.stdout) == (1, "")
    expected = "error: another `make reproduce` runs in this checkout (process 1234); wait for it or stop it\n"
    assert result.stderr == expected


def test_a_run_that_is_killed_twice_ends_with_the_same_bytes(project, tiny_data, tmp_path, start):
    killed = make_project(tmp_path / "killed", tiny_data)
    # To save time, what is not killed is there already.
    shutil.copytree(project / "runs", killed / "runs", ignore=shutil.ignore_patterns("seed*"))
    for method in ("block1", "linear_mmse"):
        shutil.copytree(folders(project)[method], folders(killed)[method])
    runs = folders(killed)

    # First the launcher and Snakemake alone: a training lives on.
    first = start(killed)
    wait_until((runs["pretrain"] / "checkpoint.pt").exists, first)
    orphans = descendants(first, "lorun")
    for orphan in orphans:
        orphan.suspend()
    (snakemake,) = descendants(first, "snakemake")
    first.kill()
    first.wait()
    refused = launch(killed)  # Snakemake outlives its launcher and still is at work
    assert refused.returncode == 1
    assert f"another `make reproduce` runs in this checkout (process {snakemake.pid})" in refused.stderr
    snakemake.kill()
    snakemake.wait()
    assert not (runs["pretrain"] / "training.json").exists()
    assert list((killed / ".snakemake/locks").iterdir())

    # The next one waits for the orphan instead of training the same run beside it; then all are killed.
    second = start(killed)
    wait_until(lambda: "cs/r25/pretrain seed 0: another process is training this run" in second.log.read_text(), second)
    for orphan in orphans:
        orphan.resume()
    wait_until((runs["lorun"] / "checkpoint.pt").exists, second)
    kill_session(second)
    kill_session(first)
    assert "cs/r25/pretrain seed 0: step" not in second.log.read_text()
    assert not (runs["lorun"] / "training.json").exists()
    assert list((killed / ".snakemake/locks").iterdir())

    result = launch(killed)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"^cs/r25/lorun seed 0: step [1-9]\d*/80: resumes$", result.stdout, re.M)
    for name in ("rows.csv", "summary.csv", "summary.md", "claims.csv", "curves.csv", "strip_cs_tiny_r25.png"):
        assert (killed / "results/tiny" / name).read_bytes() == (project / "results/tiny" / name).read_bytes(), name
    assert not list(killed.rglob("*.part"))


@pytest.fixture(scope="module")
def wild(project):
    """A profile whose trainings diverge; its folders are not there yet."""
    task = {"strategies": ["block1"], "training": {"learning_rate": 1e30}}
    write_profile(project, "wild", {"extends": "tiny.yaml", "profile": "wild", "tasks": {"cs": task}})
    assert not any(folder.exists() for folder in folders(project, "wild").values())
    return folders(project, "wild")


def test_lorun_transfer_waits_for_the_base_of_the_other_setting(project):
    assert launch(project).returncode == 0  # whatever the tests before left to do
    task = {"settings": {"r10": {"ratio": 10}}, "base_setting": "r25", "strategies": ["lorun_transfer"]}
    task["only"] = {"linear_mmse": ["r10"]}  # nothing else runs in the setting of the base
    write_profile(project, "transfer", {"extends": "tiny.yaml", "profile": "transfer", "tasks": {"cs": task}})
    profile = load_profile(project / "config/transfer.yaml")
    base = profile.experiment("cs", "r25", "pretrain", 0).folder
    assert (project / "runs" / base / "training.json").exists()  # lorun's own, of the first run
    assert dry_run(project, "transfer")["train"] == 2
    task["training"] = {"phase1_steps": 79}
    write_profile(project, "transfer", {"extends": "tiny.yaml", "profile": "transfer", "tasks": {"cs": task}})
    result = launch(project, "transfer")
    assert result.returncode == 0, result.stdout + result.stderr
    rows = read_rows(project / "results/transfer/rows.csv")
    assert set(zip(rows.setting, rows.method, rows.status, rows.steps, strict=True)) == {
        ("r10", "lorun_transfer", "completed", 160),
        ("r10", "linear_mmse", "completed", 0),
    }


def test_a_base_of_another_task_is_trained_first_and_its_cost_is_a_table(project):
    assert launch(project).returncode == 0  # whatever the tests before left to do
    task = yaml.safe_load((project / "config/base.yaml").read_text())["tasks"]["cs"] | TINY["tasks"]["cs"]
    physics = {"name": "denoising", "noise_range": [0, 50]}
    settings = {"gray": {}, "map": {"noise_map": True}}
    denoise = {**task, "physics": physics, "settings": settings, "strategies": ["block1"], "baselines": []}
    task |= {"base_task": "denoise", "base_setting": "gray", "denoiser_setting": "map"}
    task["strategies"] = ["lorun_transfer", "frozen", "deep_plug_and_play"]
    said = {"profile": "tasks", "seeds": [0], "tasks": {"cs": {**task, "baselines": []}, "denoise": denoise}}
    for part in ("training", "unfolding"):
        denoise[part] = task[part] = {**PROFILE["tasks"]["cs"][part], **task[part]}
    said["tasks"]["cs"].update(training=task["training"], unfolding=task["unfolding"])
    write_profile(project, "tasks", said)
    assert dry_run(project, "tasks")["train"] == 6  # two of block1, the base once, two on it, one on a block1
    result = launch(project, "tasks")
    assert result.returncode == 0, result.stdout + result.stderr
    rows = read_rows(project / "results/tasks/rows.csv")
    assert set(zip(rows.task, rows.method, rows.status, rows.steps, strict=True)) == {
        ("cs", "lorun_transfer", "completed", 160),
        ("cs", "frozen", "completed", 160),
        ("cs", "deep_plug_and_play", "completed", 160),
        ("denoise", "block1", "completed", 160),
    }
    assert "## One base for several tasks" in result.stdout
    assert (project / "results/tasks/tasks.csv").exists()
    assert not (project / "results/tiny/tasks.csv").exists()


def test_an_interruption_stops_everything_and_leaves_the_results_alone(project, wild, start):
    process = start(project, "wild")
    wait_until((wild["block1"] / "train.log").exists, process)
    below = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal
    assert process.wait(PATIENCE) == 130
    said = process.log.read_text()
    assert said.splitlines()[-1] == "Interrupted. Finished work is kept; run the same command to continue."
    assert "launch.py" not in said  # no traceback of it
    assert not (project / "results/wild").exists()
    assert not psutil.wait_procs(below, timeout=10)[1]


@pytest.fixture(scope="module")
def failed_run(project, wild):
    """One training fails, as its folder cannot be locked."""
    shutil.rmtree(wild["block1"], ignore_errors=True)
    (wild["block1"] / ".lock").mkdir(parents=True)
    old = snapshot(folders(project)["block1"])
    return launch(project, "wild"), old


def test_where_one_run_fails_the_others_are_in_the_table_and_it_says_why(project, wild, failed_run):
    result, _ = failed_run
    assert result.returncode != 0
    last = result.stderr.splitlines()[-1]
    assert last == "error: some jobs failed (see above and the logs in runs/); results/wild lists them"
    rows = read_rows(project / "results/wild/rows.csv")
    failed = rows[rows.method == "block1"]
    assert set(failed.status) == {"failed"}
    assert failed["value"].isna().all()
    place = wild["block1"].relative_to(project)
    assert set(failed.message) == {f"error: cannot write to {place}: Is a directory"}
    assert (rows[rows.method == "linear_mmse"].status == "completed").all()
    assert "failed 0/1" in result.stdout
    assert f"error: cannot write to {place}" in (project / "results/wild/report.html").read_text()
    assert result.stdout.count("Traceback") == result.stderr.count("Traceback") == 0


def test_after_the_repair_the_rest_is_run_and_a_diverged_training_is_a_result(project, wild, failed_run):
    _, old = failed_run
    (wild["block1"] / ".lock").rmdir()
    kept = snapshot(wild["linear_mmse"])
    (project / "data/.tiny.ok").unlink(missing_ok=True)  # data that are fetched again make no training out of date
    result = launch(project, "wild")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "tiny: 6 files verified" in result.stdout
    assert snapshot(wild["linear_mmse"]) == kept
    rows = read_rows(project / "results/wild/rows.csv")
    diverged = rows[rows.method == "block1"]
    assert set(diverged.status) == {"diverged"}
    assert diverged["value"].isna().all()
    assert diverged.message.str.contains("loss is nan at step").all()
    assert "diverged 0/1" in result.stdout
    assert old == snapshot(folders(project)["block1"])  # another learning rate has folders of its own
