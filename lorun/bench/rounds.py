"""Time pieces of work against each other: a process for each, taken in turn, round after round."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

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
class Times:
    """Seconds of one job, round by round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.seconds)

    def record(self) -> dict[str, Any]:
        """Flat fields for a table."""
        seconds = self.seconds
        return {"median_s": self.median, "min_s": min(seconds), "max_s": max(seconds), "repeats": len(seconds)}


def take_turns(jobs: Mapping[str, Job], repeats: int, what: str) -> dict[str, Times]:
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
        return {name: Times(tuple(found)) for name, found in seconds.items()}
    finally:
        for worker in workers.values():
            worker.kill()
            worker.communicate()


def ratio(of: Times, to: Times) -> tuple[float, float, float]:
    """Median, least and greatest of the ratios of the rounds: what was slow for both does not count."""
    ratios = [a / b for a, b in zip(of.seconds, to.seconds, strict=True)]
    return median(ratios), min(ratios), max(ratios)


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
