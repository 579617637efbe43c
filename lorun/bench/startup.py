"""From the start of `lorun train` to the end of its first step, beside the import of torch (`startup.csv`)."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter

import pandas as pd
from rich.progress import track

from lorun.bench.machine import where
from lorun.bench.rounds import Spread
from lorun.bench.variants import benchmarked
from lorun.errors import LorunError
from lorun.methods import PRETRAIN, Experiment
from lorun.profiles import load_profile

METHODS = ("block_k", "lorun")


def measure(config: Path, data: Path, *, repeats: int) -> pd.DataFrame:
    """A row for the import and one per method, in turns; `extra_seconds` is what exceeds 1.5 imports of the same turn.

    Raises:
        LorunError: a training did not get to its first step, for want of its dataset for example.
    """
    profile = load_profile(config)
    experiment = benchmarked(profile)
    at, seed = (experiment.task, experiment.setting), experiment.seed
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        works: dict[str, Callable[[], float]] = {"import torch": _import_torch}
        for method in METHODS:
            works[method] = partial(_first_step, config, profile.experiment(*at, method, seed), data, runs)
        base = _command(config, profile.experiment(*at, PRETRAIN, seed), data, runs)
        subprocess.run(base, check=False, capture_output=True)
        seconds: dict[str, list[float]] = {name: [] for name in works}
        for turn in track(range(repeats + 1), description="start-up", transient=True):
            for name, work in works.items():
                taken = work()
                if turn:  # the first fills the file cache
                    seconds[name].append(taken)
    rows = []
    for name, found in seconds.items():
        time = Spread.of(found)
        extra = Spread.of([a - 1.5 * b for a, b in zip(found, seconds["import torch"], strict=True)])
        rows.append(
            {
                "what": name,
                "profile": config.stem,
                "seconds": round(time.median, 3),
                "q25": round(time.low, 3),
                "q75": round(time.high, 3),
                "extra_seconds": None if name == "import torch" else round(extra.median, 3),
                "repeats": repeats,
                **where(experiment.training.cpu_threads, "cpu"),
            }
        )
    return pd.DataFrame(rows)


def _command(config: Path, of: Experiment, data: Path, runs: Path) -> list[str]:
    what = ["--task", of.task, "--setting", of.setting, "--method", of.method, "--seed", str(of.seed)]
    where = ["--data", str(data), "--runs", str(runs), "--device", "cpu"]
    return [sys.executable, "-m", "lorun", "train", "-c", str(config), *what, *where]


def _import_torch() -> float:
    begin = perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return perf_counter() - begin


def _first_step(config: Path, of: Experiment, data: Path, runs: Path) -> float:
    """Seconds until the training says that it has made a step; it is then ended, and leaves nothing behind."""
    begin = perf_counter()
    process = subprocess.Popen(_command(config, of, data, runs), stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        last = ""
        for last in process.stderr:
            if ": step 1/" in last:
                return perf_counter() - begin
        raise LorunError(f"start-up of {of.method}: no first step: {last.strip()}")
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(runs / of.folder, ignore_errors=True)
