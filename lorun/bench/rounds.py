"""Time pieces of work against each other: a process for each, taken in turn, round after round."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from rich.progress import track

from lorun.errors import LorunError


@dataclass(frozen=True)
class Job:
    """`prepare` ("module:function") is called with `arguments` in a process of its own and returns the work."""

    prepare: str
    arguments: dict[str, Any] = field(default_factory=dict)
    threads: int = 1
    warm_up: int = 2


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
        return cls(middle, low, high)


Times = Mapping[str, list[float]]
"""Seconds of each job, round by round."""


def take_turns(jobs: Mapping[str, Job], repeats: int, what: str) -> Times:
    """Do each job once per round, `repeats` rounds, one job at a time; show progress as `what`.

    Raises:
        LorunError: a job's process failed; says which and why.
    """
    workers: dict[str, subprocess.Popen[str]] = {}
    try:
        for name, job in jobs.items():  # one after the other: all of them at once would not fit into memory
            workers[name] = _start(job)
            _answer(name, workers[name])
        seconds: dict[str, list[float]] = {name: [] for name in jobs}
        for _ in track(range(repeats), description=what, disable=not sys.stderr.isatty()):
            for name, worker in workers.items():
                assert worker.stdin is not None
                worker.stdin.write("go\n")
                worker.stdin.flush()
                seconds[name].append(float(_answer(name, worker)))
        return seconds
    finally:
        for worker in workers.values():
            worker.kill()
            worker.communicate()


def ratio(of: Sequence[float], to: Sequence[float]) -> Spread:
    """The ratios of the rounds: what was slow for both does not count."""
    return Spread.of([a / b for a, b in zip(of, to, strict=True)])


def _start(job: Job) -> subprocess.Popen[str]:
    said = {"prepare": job.prepare, "arguments": job.arguments, "warm_up": job.warm_up}
    threads = {name: str(job.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return subprocess.Popen(
        [sys.executable, "-m", "lorun.bench.worker", json.dumps(said)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | threads,
        text=True,
    )


def _answer(name: str, worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    line = worker.stdout.readline().strip()
    if not line or line.startswith("error"):
        reason = line.removeprefix("error ") or f"its process ended with status {worker.wait()}"
        raise LorunError(f"benchmark of {name}: {reason}")
    return line
