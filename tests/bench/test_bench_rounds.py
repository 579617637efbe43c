import sys
import time

import pytest

from lorun.bench.rounds import Job, Spread, ratio, take_turns
from lorun.errors import LorunError

SLOW = 0.2  # seconds


def wait(seconds, log):
    """What a worker repeats: note who works, and wait."""

    def work():
        with open(log, "a") as lines:
            lines.write(f"{seconds}\n")
        time.sleep(seconds)

    return work


def fail():
    raise ValueError("no such thing")


def die():
    def work():
        sys.exit(7)

    return work


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The workers import this module by its name."""
    from pathlib import Path

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def job(what, **arguments):
    return Job(f"{__file__.rpartition('/')[2].removesuffix('.py')}:{what}", arguments, warm_up=1)


def test_jobs_take_turns_in_processes_of_their_own(tmp_path):
    log = tmp_path / "log"
    jobs = {"slow": job("wait", seconds=SLOW, log=str(log)), "fast": job("wait", seconds=0.0, log=str(log))}
    times = take_turns(jobs, 3, "waiting")
    assert all(len(times[name]) == 3 for name in jobs)
    assert min(times["slow"]) >= SLOW > Spread.of(times["fast"]).median
    warm_up, rounds = log.read_text().splitlines()[:2], log.read_text().splitlines()[2:]
    assert warm_up == [str(SLOW), "0.0"]
    assert rounds == [str(SLOW), "0.0"] * 3


def test_a_job_that_cannot_be_prepared_says_why():
    with pytest.raises(LorunError, match="benchmark of bad: ValueError: no such thing"):
        take_turns({"bad": job("fail")}, 2, "failing")


def test_a_job_that_dies_says_so():
    with pytest.raises(LorunError, match="benchmark of bad: its process ended with status 7"):
        take_turns({"bad": job("die")}, 2, "dying")


def test_ratios_are_taken_within_rounds():
    """A round that is slow for both changes nothing."""
    assert ratio([1.0, 30.0, 1.2], [2.0, 60.0, 2.4]) == Spread(0.5, 0.5, 0.5)
    assert Spread.of([1.0, 2.0, 3.0, 4.0, 5.0]) == Spread(3.0, 2.0, 4.0)
