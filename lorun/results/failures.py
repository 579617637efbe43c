"""Jobs of a workflow that ended without their output, and the ends of their logs."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from lorun.methods import Experiment
from lorun.profiles import Profile
from lorun.results.paths import EVALUATION, EVALUATION_LOG, TRAINING_LOG, account_path, with_bases
from lorun.training.outcome import FILE

LINES = 3
"""Of the end of a log."""

SCHEDULER = "slurmstepd"
"""How lines begin by which Slurm says why it ended a job: out of memory, out of time, cancelled."""


class Failure(NamedTuple):
    """A job without its output. `key` is that of its run, or of its account."""

    rule: str
    name: str
    key: str
    log: Path


def failures(profile: Profile, runs: Path, since: float, submitted: Path | None = None) -> list[Failure]:
    """The jobs of a profile that wrote a log since a moment, in seconds, and have no output.

    `submitted` is the folder where Snakemake's plugin for Slurm has the logs of jobs that failed.
    """
    jobs = chain.from_iterable(_jobs(experiment, runs) for experiment in profile.experiments())
    missing = {failure: output for failure, output in jobs if not output.exists()}
    return [one for one in missing if any(log.stat().st_mtime >= since for log in _logs(one, submitted))]


def describe(failure: Failure, submitted: Path | None = None) -> Iterator[str]:
    """Its rule, run and log, the last lines of the log, and what Slurm said."""
    yield f"failed: {failure.rule} of {failure.name}: {failure.log}"
    for log in _logs(failure, submitted):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        if log != failure.log:
            lines = [line for line in lines if line.startswith(SCHEDULER)]
        yield from (f"    {line}" for line in lines[-LINES:])


def _jobs(experiment: Experiment, runs: Path) -> Iterator[tuple[Failure, Path]]:
    """The jobs of an experiment and of the bases that it starts from, each with its output."""
    for one in with_bases(experiment):
        folder, name, key = runs / one.folder, one.name, one.key
        yield Failure("train", name, key, folder / TRAINING_LOG), folder / FILE
        yield Failure("evaluate", name, key, folder / EVALUATION_LOG), folder / EVALUATION
        account = account_path(runs, one)
        yield Failure("account", name, one.account_key, account.with_suffix(".log")), account


def _logs(failure: Failure, submitted: Path | None) -> list[Path]:
    """The log of a job, and the last one of Slurm, as far as they exist."""
    found = [failure.log] if failure.log.exists() else []
    if submitted is not None:
        logs = [*submitted.glob(f"rule_{failure.rule}/*_{failure.key}/*.log")]
        found += [max(logs, key=lambda log: log.stat().st_mtime)] if logs else []
    return found
