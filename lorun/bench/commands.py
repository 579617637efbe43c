"""Seconds until the first step of `lorun train` (`startup.csv`), and of a dry run of the workflow (`dry_run.csv`)."""

import re
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter

import pandas as pd
import yaml

from lorun.bench.rounds import Prepare, Work, spread, take_turns, verdict
from lorun.bench.variants import benchmarked, training_of, where
from lorun.errors import LorunError
from lorun.methods import PRETRAIN, Experiment
from lorun.profiles import load_profile
from lorun.results.store import records

METHODS = ("block_k", "lorun")
SEEDS = 311
"""Of the dry run: 10,008 jobs in the profile `quick`."""

_IMPORT = "import torch"
_PROFILE = "generated"


def measure_startup(config: Path, data: Path, *, repeats: int) -> pd.DataFrame:
    """A row for the import of torch and one per method; `extra_seconds` is the time beyond 1.5 imports in a round.

    Raises:
        LorunError: a training did not reach its first step, e.g. because its dataset is missing.
    """
    profile = load_profile(config)
    sizes = benchmarked(profile)
    base, *methods = (profile.experiment(sizes.task, sizes.setting, name, sizes.seed) for name in (PRETRAIN, *METHODS))
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        subprocess.run(_training(config, base, data, runs), check=False, capture_output=True)
        jobs: dict[str, Prepare] = {_IMPORT: _import_torch}
        for one in methods:
            jobs[one.method] = partial(_first_step, _training(config, one, data, runs), runs / one.folder)
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


def judge_startup(table: pd.DataFrame) -> pd.DataFrame:
    """A row per method: whether it starts in time."""
    name = "start-up of {what}: seconds beyond 1.5 x import of torch"
    lines = records(table.dropna(subset="extra_seconds"))
    return pd.DataFrame(verdict(line["profile"], name.format(**line), line["extra_seconds"], 2.0) for line in lines)


def _training(config: Path, experiment: Experiment, data: Path, runs: Path) -> list[str]:
    run = [text for name, value in experiment.labels.items() for text in (f"--{name}", str(value))]
    places = ["--data", str(data), "--runs", str(runs), "--device", "cpu"]
    return [sys.executable, "-m", "lorun", "train", "-c", str(config), *run, *places]


def _import_torch() -> Work:
    return lambda: subprocess.run([sys.executable, "-c", _IMPORT], check=True)


def _first_step(command: list[str], run: Path) -> Work:
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


def measure_dry_run(config: Path, project: Path, *, repeats: int, seeds: int = SEEDS) -> pd.DataFrame:
    """One row: a dry run on the profile, untuned, with many seeds.

    `project` is the folder of the Snakefile and of data/. The dry run is timed `repeats` times.

    Raises:
        LorunError: the dry run failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        command = _planning(config, project, place, seeds)
        runs = [_plan(command) for _ in range(repeats)]
    seconds = pd.Series([seconds for seconds, _ in runs])
    sizes = {"profile": config.stem, "seeds": seeds, "jobs": runs[0][1]}
    return pd.DataFrame([{**sizes, **spread("seconds", seconds, 2), "repeats": repeats, **where(1)}])


def judge_dry_run(table: pd.DataFrame) -> pd.DataFrame:
    """A row per dry run: whether it is fast enough."""
    name, lines = "dry run of {jobs} jobs: seconds", records(table)
    return pd.DataFrame(verdict(line["profile"], name.format(**line), line["seconds"], 30.0) for line in lines)


def _planning(config: Path, project: Path, place: Path, seeds: int) -> list[str]:
    """Put what the workflow reads into the folder `place`: profiles, models, manifests. Return the command."""
    shutil.copytree(config.parent, place / "config")
    (place / "data").mkdir()
    for path in [project / "data" / "registry.yaml", *(project / "data").glob("*.md5")]:
        shutil.copy(path, place / "data")
    (place / "models").symlink_to((project / "models").resolve())
    tasks = {name: {"training": {"tuning": None}} for name in load_profile(config).tasks}
    content = {"extends": config.name, "profile": _PROFILE, "seeds": list(range(seeds)), "tasks": tasks}
    (place / "config" / f"{_PROFILE}.yaml").write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", "--config", f"profile={_PROFILE}"]
    return [*command, "--snakefile", str((project / "Snakefile").resolve()), "--directory", str(place)]


def _plan(command: list[str]) -> tuple[float, int]:
    """Seconds and number of jobs of a dry run."""
    begin = perf_counter()
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    seconds = perf_counter() - begin
    total = re.search(r"^total +(\d+)$", found.stdout + found.stderr, re.MULTILINE)
    if found.returncode or total is None:
        line = (found.stderr.strip() or found.stdout.strip() or "no output").splitlines()[-1]
        raise LorunError(f"dry run of the workflow: exit status {found.returncode}: {line}")
    return seconds, int(total[1])
