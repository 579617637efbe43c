"""The trainings that chose learning rates, as a table that is committed beside the profile."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lorun.errors import LorunError
from lorun.files import write_text


class Trial(BaseModel):
    """One training: a line of the table.

    Attributes:
        task, setting, method: what was trained.
        parameter: what is tuned: learning_rate, or adapter_rate, a multiple of the common learning rate.
        value: of that parameter.
        whole: whether it is a whole training, not a short one.
        run: key of the training; a chosen value holds while the profile still gives this key.
        status: how the training ended.
        validation_psnr: dB, after its last step; None if it did not complete.
        steps: optimiser steps, and
        training_flops: their counted FLOPs, both without those of its base.
        chosen: whether the value is the best.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    setting: str
    method: str
    parameter: str
    value: float
    whole: bool
    run: str
    status: str
    validation_psnr: float | None
    steps: int
    training_flops: int
    chosen: bool


def edge(value: float, tried: Iterable[float]) -> Literal["lowest", "highest", "no"]:
    """Whether a value is at an edge of those that were tried, so that a better one may lie outside."""
    values = set(tried)
    return "lowest" if value == min(values) else "highest" if value == max(values) else "no"


def trials_path(config: Path, profile: str) -> Path:
    """Where the trials of a profile are: config/tuned/PROFILE.csv for config/PROFILE.yaml."""
    return config.parent / "tuned" / f"{profile}.csv"


def read_trials(path: Path) -> list[Trial]:
    """The trials in a table; none where there is no such file. Raises LorunError where it is damaged."""
    if not path.exists():
        return []
    try:
        lines = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        return [Trial.model_validate({key: value or None for key, value in line.items()}) for line in lines]
    except (ValidationError, UnicodeDecodeError, csv.Error) as error:
        problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise LorunError(f"{path}: damaged; restore it from git, or tune again ({problem})") from error


def write_trials(path: Path, trials: Iterable[Trial]) -> None:
    """Write a table of trials, atomically."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(Trial.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(trial.model_dump() for trial in trials)
    write_text(path, out.getvalue())
