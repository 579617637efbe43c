"""How a training ended: `training.json`, the last file that a run writes, and whether the others are still those."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lorun.config import Recompute
from lorun.errors import LorunError
from lorun.files import sha256_of, write_text

FILE = "training.json"
WEIGHTS = "weights.safetensors"
ADAPTERS = "adapters"

Status = Literal["completed", "diverged", "out_of_memory"]


class CurvePoint(BaseModel):
    """State after `step` steps: mean training loss since the last point, validation PSNR (dB), learning rate."""

    step: int
    loss: float
    validation_psnr: float | None
    learning_rate: float


class Outcome(BaseModel):
    """The result of a finished training.

    Attributes:
        steps: optimiser steps of this run.
        total_steps: including the steps of its pretraining.
        training_flops: counted FLOPs of all steps, those of its pretraining included.
        scored_step: the step whose weights are scored; None if nothing was trained.
        checkpoint_policy: how that step was chosen; "released" for released weights, None if nothing was trained.
        recompute: what the last session recomputed; None if nothing was trained.
        precision: that the network computed in; None if nothing was trained.
        seconds: wall time over all sessions.
        cuda_peak_bytes: torch.cuda.max_memory_allocated; None on a CPU.
        unmoved: names of the trained parameters that did not change; None without weights.
        code: digests of the code it used, see `lorun.provenance.code_used`; None if not recorded.
        files: sha256 of the files of weights and adapters; None if not recorded, or without weights.
    """

    model_config = ConfigDict(extra="forbid")

    status: Status
    message: str | None = None
    steps: int = 0
    total_steps: int = 0
    training_flops: int = 0
    scored_step: int | None = None
    checkpoint_policy: str | None = None
    recompute: Recompute | None = None
    precision: str | None = None
    seconds: float = 0.0
    cuda_peak_bytes: int | None = None
    unmoved: list[str] | None = None
    provenance: dict[str, Any]
    code: dict[str, str] | None = None
    files: dict[str, str] | None = None
    curve: list[CurvePoint] = []


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Write `training.json`."""
    write_text(folder / FILE, outcome.model_dump_json(indent=1) + "\n")


def read_outcome(folder: Path) -> Outcome | None:
    """The outcome of the run in `folder`, or None. Raises LorunError when the file is damaged."""
    path = folder / FILE
    try:
        return Outcome.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise LorunError(f"{path}: damaged; `lorun train` makes the run again") from error


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of each file of weights and adapters of a folder, by its path in there."""
    paths = [folder / WEIGHTS, *sorted((folder / ADAPTERS).rglob("*"))]
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in paths if path.is_file()}


def check_files(folder: Path, outcome: Outcome) -> None:
    """Raise LorunError where a completed run lacks a file of weights or adapters, or has not the one that it wrote."""
    if outcome.status != "completed":
        return
    files: Mapping[str, str | None] = outcome.files or {WEIGHTS: None}
    for name, digest in files.items():
        path = folder / name
        if not path.is_file():
            raise LorunError(f"{path}: missing from a finished run; `lorun train` makes it again")
        if digest not in (None, sha256_of(path)):
            raise LorunError(f"{path}: cut or changed since the run was finished; `lorun train` makes it again")


def read_whole(folder: Path) -> Outcome | None:
    """The outcome of a run all of whose files are those that it wrote, or None; says on stderr what is damaged."""
    try:
        outcome = read_outcome(folder)
        if outcome is not None:
            check_files(folder, outcome)
    except LorunError as error:
        print(error, file=sys.stderr, flush=True)
        return None
    return outcome
