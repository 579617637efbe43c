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
    """What is known of a finished training.

    `steps` counts optimiser steps of this run, `total_steps` those of its pretraining besides; `seconds` is wall time
    over all its sessions; `cuda_peak_bytes` is torch.cuda.max_memory_allocated, null on a CPU; `recompute` is what the
    last session did, null where nothing was trained. `unmoved` names the trained parameters that are scored with the
    values that they began with; null where that is not known: without weights, and before there was this field.
    """

    model_config = ConfigDict(extra="forbid")

    status: Status
    message: str | None = None
    steps: int
    total_steps: int
    scored_step: int | None
    checkpoint_policy: str
    recompute: Recompute | None = None
    seconds: float
    cuda_peak_bytes: int | None
    unmoved: list[str] | None = None
    provenance: dict[str, Any]
    curve: list[CurvePoint]


def write_outcome(folder: Path, outcome: Outcome) -> None:
    write_text(folder / FILE, outcome.model_dump_json(indent=1) + "\n")


def read_outcome(folder: Path) -> Outcome | None:
    """The outcome of the run in `folder`; None while there is none. Raises LorunError when the file is damaged."""
    path = folder / FILE
    try:
        return Outcome.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise LorunError(f"{path}: damaged; remove it to finish the run again from its checkpoint") from error
