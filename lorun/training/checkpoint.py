"""The state of a training and its checkpoint. A resumed training repeats an uninterrupted one bit for bit."""

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from lorun.errors import LorunError
from lorun.system import System
from lorun.training.outcome import CurvePoint
from lorun.training.weights import load_checkpoint, load_state, save_checkpoint

CHECKPOINT = "checkpoint.pt"


class _Numbers(BaseModel):
    """The numbers of a checkpoint: steps and seconds, and losses since the last point of the curve."""

    model_config = ConfigDict(strict=True)

    done: Annotated[int, Field(ge=1)]
    seconds: Annotated[FiniteFloat, Field(ge=0)]
    losses: list[float]
    curve: list[CurvePoint]


@dataclass
class State:
    """Everything that changes during a training. The patch stream depends on the step alone."""

    system: System
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None
    done: int = 0
    seconds: float = 0.0
    losses: list[Tensor] = field(default_factory=list)  # since the last point of the curve
    curve: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None

    @property
    def scored(self) -> System:
        """The system that is validated and scored: the averaged weights if there are any."""
        return self.average.module if self.average is not None else self.system  # type: ignore[return-value]

    def save(self, path: Path, key: str, device: torch.device) -> None:
        """Write the checkpoint of the run with this key, atomically; `device` is the training's."""
        random = {"cpu": torch.get_rng_state()}
        if device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(device)
        save_checkpoint(
            path,
            {
                "key": key,
                "done": self.done,
                "seconds": self.seconds,
                "system": self.system.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average.state_dict() if self.average is not None else None,
                "best": self.best,
                "losses": [loss.item() for loss in self.losses],
                "curve": self.curve,
                "random": random,
            },
        )

    def resume(self, path: Path, key: str, device: torch.device, steps: int) -> None:
        """Load the checkpoint that `save` wrote, if there is one, of a training of `steps` steps.

        Raises:
            LorunError: the checkpoint is damaged, belongs to another run, or does not fit the network.
        """
        if not path.exists():
            return
        saved = load_checkpoint(path)
        _check_sums(path)
        if saved.get("key") != key:
            raise LorunError(
                f"{path}: belongs to another experiment (key {saved.get('key')}, not {key}); remove it to start "
                "the run again"
            )
        try:
            numbers = _Numbers(**{name: saved[name] for name in _Numbers.model_fields})
            last = numbers.curve[-1].step if numbers.curve else 0
            if not last + len(numbers.losses) == numbers.done <= steps:
                raise ValueError(f"step {numbers.done} of {steps}, losses up to {last + len(numbers.losses)}")
            load_state(self.system, saved["system"], path)
            self.optimizer.load_state_dict(saved["optimizer"])
            if self.average is not None:
                load_state(self.average, saved["average"], path)
            self.done, self.seconds = saved["done"], saved["seconds"]
            self.losses = [torch.tensor(loss, device=device) for loss in saved["losses"]]
            self.curve, self.best = saved["curve"], saved["best"]
            torch.set_rng_state(saved["random"]["cpu"])
            if device.type == "cuda" and "cuda" in saved["random"]:
                torch.cuda.set_rng_state(saved["random"]["cuda"], device)
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            problem = error.errors()[0] if isinstance(error, ValidationError) else None
            reason = repr(error)[:200] if problem is None else f"`{problem['loc'][0]}`: {problem['msg']}"
            raise LorunError(
                f"{path}: not a checkpoint of this version ({reason}); remove it to start the run again"
            ) from error


def _check_sums(path: Path) -> None:
    """Raise LorunError where a part does not have the checksum that was written with it: torch does not look."""
    try:
        with zipfile.ZipFile(path) as parts:
            damaged = parts.testzip()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise LorunError(f"{path}: damaged ({error}); remove it to start the run again") from error
    if damaged is not None:
        raise LorunError(f"{path}: damaged at {damaged}; remove it to start the run again")
