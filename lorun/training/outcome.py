"""How a training ended: `training.json`, the last file that a run writes."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lorun.config import Recompute
from lorun.errors import LorunError
from lorun.files import write_text

FILE = "training.json"

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
        seconds: wall time over all sessions.
        cuda_peak_bytes: torch.cuda.max_memory_allocated; None on a CPU.
        unmoved: names of the trained parameters that did not change; None without weights.
        code: digests of the code it used, see `lorun.provenance.code_used`; None if not recorded.
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
    seconds: float = 0.0
    cuda_peak_bytes: int | None = None
    unmoved: list[str] | None = None
    provenance: dict[str, Any]
    code: dict[str, str] | None = None
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
        raise LorunError(f"{path}: damaged; remove it to finish the run again from its checkpoint") from error
