"""`make reproduce` ends with the same bytes after it was killed and interrupted."""

import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
from launched import PATIENCE, Launched, launcher, start_launcher, wait_until
from sessions import kill_session

pytest.importorskip("snakemake")
psutil = pytest.importorskip("psutil")  # Snakemake's own

# Long enough to be killed in the middle.
STEPS = {"steps": 80, "phase1_steps": 40, "checkpoint_every": 5, "validate_every": 20}
TINY = {"tasks": {"cs": {"unfolding": {"stages": 2}, "strategies": ["lorun"], "baselines": [], "training": STEPS}}}


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_data):
    project = Launched(tmp_path_factory.mktemp("workflow") / "project", tiny_data, TINY)
    yield project
    project.close()


@pytest.fixture(scope="module")
def uninterrupted(made):
    """The tables of a run to the end, whose trainings, scores and tables are then deleted."""
    result = made.launch()
    assert result.returncode == 0, result.stdout + result.stderr
    tables = made.tables()
    for folder in (*made.folders().values(), made.root / "results/tiny"):
        shutil.rmtree(folder)
    return tables


@pytest.fixture
def start(tmp_path):
    """Start a launcher in a session of its own, its output in `.log`; what still lives of it at the end is killed."""
    started = []

    def start_one(project):
        started.append(start_launcher([sys.executable, *launcher()], project, tmp_path / f"{len(started)}.log"))
        return started[-1]

    yield start_one
    for process in started:
        kill_session(process)


def descendants(process, word):
    """The Python processes below a launcher that run the program or script `word`."""
    found = []
    for one in psutil.Process(process.pid).children(recursive=True):
        try:
            line = one.cmdline()
        except psutil.NoSuchProcess:
            continue
        if "python" in "".join(line[:1]) and any(Path(part).name == word for part in line[1:3]):
            found.append(one)
    return found


def test_killed_and_interrupted_runs_end_with_the_same_bytes(made, uninterrupted, start, refused):
    killed, runs = made.root, made.folders()

    # kill -9 of the launcher, then of Snakemake: a training lives on.
    first = start(made)
    wait_until((runs["pretrain"] / "checkpoint.pt").exists, first)
    orphans = descendants(first, "preloaded.py")
    for orphan in orphans:
        orphan.suspend()
    (snakemake,) = descendants(first, "snakemake")
    first.kill()
    first.wait()
    message = refused(killed, "--profile", "tiny")  # Snakemake outlives its launcher and still is at work
    assert message.startswith(f"another `make reproduce` runs in this checkout (process {snakemake.pid})")
    snakemake.kill()
    snakemake.wait()
    assert not (runs["pretrain"] / "training.json").exists()
    assert list((killed / ".snakemake/locks").iterdir())

    # The next launcher waits for that training, and resumes it after kill -9. Then Ctrl-C, as in a terminal.
    second = start(made)
    wait_until(lambda: "cs/r25/pretrain seed 0: another process is training this run" in second.log.read_text(), second)
    assert "cs/r25/pretrain seed 0: step" not in second.log.read_text()
    kill_session(first)
    wait_until((runs["lorun"] / "checkpoint.pt").exists, second)
    below = psutil.Process(second.pid).children(recursive=True)
    os.killpg(second.pid, signal.SIGINT)
    assert second.wait(PATIENCE) == 130
    printed = second.log.read_text()
    assert re.search(r"^cs/r25/pretrain seed 0: step [1-9]\d*/40: resumes$", printed, re.M)
    assert printed.splitlines()[-1] == "Interrupted. Finished work is kept; run the same command to continue."
    assert "launch.py" not in printed  # no traceback of it
    assert not psutil.wait_procs(below, timeout=10)[1]
    assert not (runs["lorun"] / "training.json").exists()
    assert not (killed / "results/tiny/rows.csv").exists()

    result = made.launch()
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"^cs/r25/lorun seed 0: step [1-9]\d*/40: resumes$", result.stdout, re.M)
    for name, content in uninterrupted.items():
        assert (killed / "results/tiny" / name).read_bytes() == content, name
    assert not list(killed.rglob("*.part"))
