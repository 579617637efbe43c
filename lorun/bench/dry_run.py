"""Seconds of a dry run of the workflow on a profile of many jobs (`dry_run.csv`)."""

import math
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import pandas as pd
import yaml

from lorun.bench.rounds import spread
from lorun.bench.variants import where
from lorun.errors import LorunError
from lorun.profiles import load_profile

JOBS = 10_000

_PROFILE = "generated"


def measure(config: Path, project: Path, *, jobs: int, repeats: int) -> pd.DataFrame:
    """One row: a dry run on the profile, untuned, with as many seeds as give at least `jobs` jobs.

    `project` is the folder of the Snakefile and of data/. The dry run is timed `repeats` times.

    Raises:
        LorunError: the dry run failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _prepare(config, project, place)
        few, many = (_run(config, project, place, seeds)[1] for seeds in (1, 2))
        seeds = 1 + max(1, math.ceil((jobs - few) / (many - few)))
        runs = [_run(config, project, place, seeds) for _ in range(repeats)]
    seconds = pd.Series([seconds for seconds, _ in runs])
    sizes = {"profile": config.stem, "seeds": seeds, "jobs": runs[0][1]}
    return pd.DataFrame([{**sizes, **spread("seconds", seconds, 2), "repeats": repeats, **where(1)}])


def _prepare(config: Path, project: Path, place: Path) -> None:
    """Put what the workflow reads into the folder `place`: profiles, models, manifests."""
    shutil.copytree(config.parent, place / "config")
    (place / "data").mkdir()
    for path in [project / "data" / "registry.yaml", *(project / "data").glob("*.md5")]:
        shutil.copy(path, place / "data")
    (place / "models").symlink_to((project / "models").resolve())


def _run(config: Path, project: Path, place: Path, seeds: int) -> tuple[float, int]:
    """Seconds and number of jobs of a dry run in the folder `place`."""
    tasks = {name: {"training": {"tuning": None}} for name in load_profile(config).tasks}
    content = {"extends": config.name, "profile": _PROFILE, "seeds": list(range(seeds)), "tasks": tasks}
    (place / "config" / f"{_PROFILE}.yaml").write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", "--config", f"profile={_PROFILE}"]
    command += ["--snakefile", str((project / "Snakefile").resolve()), "--directory", str(place)]
    begin = perf_counter()
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    seconds = perf_counter() - begin
    total = re.search(r"^total +(\d+)$", found.stdout + found.stderr, re.MULTILINE)
    if found.returncode or total is None:
        line = (found.stderr.strip() or found.stdout.strip() or "no output").splitlines()[-1]
        raise LorunError(f"dry run of {config}: exit status {found.returncode}: {line}")
    return seconds, int(total[1])
