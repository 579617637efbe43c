"""Time several jobs in rounds: each job in a process of its own, one job at a time."""

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from time import perf_counter
from typing import Any

import pandas as pd
from rich.progress import track

from lorun.errors import LorunError, one_line

Work = Callable[[], object]
Prepare = Callable[[], Work]


def take_turns(jobs: Mapping[str, Prepare], repeats: int, title: str, warm_up: int = 2) -> pd.DataFrame:
    """Seconds of the jobs: a column per job, a row per round. Shows progress under `title`.

    Each job is called once in its own process, so it must be picklable; it returns the work that is timed.

    Raises:
        LorunError: a job failed; the message names it and the reason.
    """
    spawn = get_context("spawn")  # a forked process would share the threads and the GPU of this one
    with ExitStack() as stack:
        workers = {name: stack.enter_context(ProcessPoolExecutor(1, spawn)) for name in jobs}
        for name, job in jobs.items():  # one at a time, because preparing takes the most memory
            _call(name, workers[name], partial(_prepare, job, warm_up))
        rounds = track(range(repeats), description=title, disable=not sys.stderr.isatty())
        rows = [{name: _call(name, worker, _time) for name, worker in workers.items()} for _ in rounds]
    return pd.DataFrame(rows, columns=list(jobs))


def spread(name: str, values: "pd.Series[float]", digits: int, prefix: str = "") -> dict[str, float | None]:
    """Columns of a table: the median as `name`, and the quartiles as `q25` and `q75`, None for a single value."""
    low, median, high = (round(float(value), digits) for value in values.quantile([0.25, 0.5, 0.75]))
    several = len(values) > 1
    return {name: median, f"{prefix}q25": low if several else None, f"{prefix}q75": high if several else None}


def verdict(profile: str, target: str, measured: "pd.Series[float] | float", limit: float) -> dict[str, Any]:
    """A row of `targets.csv`: the median, its quartiles if there are several values, the limit, and pass or miss."""
    values = pd.Series(measured)
    found = "not measured: no GPU" if values.isna().all() else "pass" if values.median() <= limit else "miss"
    return {
        "profile": profile,
        "target": target,
        **spread("measured", values, 4),
        "limit": round(limit, 4),
        "verdict": found,
    }


_work: Work  # in the process of a job


def _prepare(job: Prepare, warm_up: int) -> None:
    global _work
    _work = job()
    for _ in range(warm_up):
        _work()


def _time() -> float:
    begin = perf_counter()
    _work()
    return perf_counter() - begin


def _call(name: str, worker: ProcessPoolExecutor, function: Callable[[], Any]) -> Any:
    try:
        return worker.submit(function).result()
    except BrokenProcessPool:
        raise LorunError(f"benchmark of {name}: its process died") from None
    except Exception as error:
        raise LorunError(f"benchmark of {name}: {type(error).__name__}: {one_line(error)}") from error
