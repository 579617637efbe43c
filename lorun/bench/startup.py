"""Time from the start of `lorun train` to the end of its first step, and the import of torch (`startup.csv`)."""

import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pandas as pd

from lorun.bench.rounds import Prepare, Work, spread, take_turns
from lorun.bench.variants import benchmarked, training_of, where
from lorun.errors import LorunError
from lorun.methods import PRETRAIN, Experiment
from lorun.profiles import load_profile

METHODS = ("block_k", "lorun")
_IMPORT = "import torch"


def measure(config: Path, data: Path, *, repeats: int) -> pd.DataFrame:
    """A row for the import and one per method; `extra_seconds` is the time beyond 1.5 imports in the same round.

    Raises:
        LorunError: a training did not reach its first step, e.g. because its dataset is missing.
    """
    profile = load_profile(config)
    sizes = benchmarked(profile)
    base, *methods = (profile.experiment(sizes.task, sizes.setting, name, sizes.seed) for name in (PRETRAIN, *METHODS))
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        subprocess.run(_command(config, base, data, runs), check=False, capture_output=True)
        jobs: dict[str, Prepare] = {_IMPORT: _import_torch}
        for one in methods:
            jobs[one.method] = partial(_train, _command(config, one, data, runs), runs / one.folder)
        seconds = take_turns(jobs, repeats, "start-up", warm_up=1)
    extra = seconds.sub(1.5 * seconds[_IMPORT], axis=0).median().round(3)
    return pd.DataFrame(
        {
            "what": name,
            "profile": config.stem,
            **spread("seconds", seconds[name], 3),
            "extra_seconds": None if name == _IMPORT else extra[name],
            "repeats": repeats,
            **where(training_of(sizes).cpu_threads),
        }
        for name in jobs
    )


def _command(config: Path, experiment: Experiment, data: Path, runs: Path) -> list[str]:
    run = [text for name, value in experiment.labels.items() for text in (f"--{name}", str(value))]
    places = ["--data", str(data), "--runs", str(runs), "--device", "cpu"]
    return [sys.executable, "-m", "lorun", "train", "-c", str(config), *run, *places]


def _import_torch() -> Work:
    return lambda: subprocess.run([sys.executable, "-c", _IMPORT], check=True)


def _train(command: list[str], run: Path) -> Work:
    """Train until the first step is reported, then stop the training and delete its run."""

    def work() -> None:
        line = "no output"
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if ": step 1/" in line:
                    break
            else:
                raise LorunError(f"no first step: {line.strip()}")
            process.kill()
        shutil.rmtree(run, ignore_errors=True)

    return work
