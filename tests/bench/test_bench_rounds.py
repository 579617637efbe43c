"""Jobs that are timed in turns, in processes of their own."""

import os
import time
from functools import partial

import pandas as pd
import pytest

from lorun.bench.rounds import spread, take_turns
from lorun.errors import LorunError

SLOW = 0.1  # seconds


def wait(seconds, log):
    """Work that notes its process and its time in the log, and waits."""

    def work():
        with open(log, "a") as lines:
            lines.write(f"{os.getpid()} {seconds}\n")
        time.sleep(seconds)

    return work


def fail():
    raise ValueError("no such thing")


def die():
    return lambda: os._exit(7)


def test_jobs_take_turns_in_processes_of_their_own(tmp_path):
    log = tmp_path / "log"
    jobs = {str(seconds): partial(wait, seconds, log) for seconds in (SLOW, 0.0)}
    seconds = take_turns(jobs, 3, "waiting", warm_up=1)
    assert seconds.shape == (3, 2)
    assert seconds[str(SLOW)].min() >= SLOW > seconds["0.0"].median()
    processes, waits = zip(*(line.split() for line in log.read_text().splitlines()), strict=True)
    assert waits == (str(SLOW), "0.0") * 4  # the warm-up and three rounds
    assert len(set(processes)) == 2
    assert str(os.getpid()) not in processes


@pytest.mark.parametrize(
    ("prepare", "message"), [(fail, "benchmark of bad: ValueError: no such thing"), (die, "bad: its process died")]
)
def test_a_job_that_fails_is_named(prepare, message):
    with pytest.raises(LorunError, match=message):
        take_turns({"bad": prepare}, 2, "failing")


def test_a_spread_is_the_median_and_the_quartiles():
    values = pd.Series([1.0, 2.0, 3.0, 4.0, 5.0])
    assert spread("seconds", values, 3) == {"seconds": 3.0, "q25": 2.0, "q75": 4.0}
    assert spread("a", values[:1], 3, "a_") == {"a": 1.0, "a_q25": None, "a_q75": None}
