"""The state of a training and its checkpoint. A resumed training repeats an uninterrupted one bit for bit."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from lorun.errors import LorunError
from lorun.system import System
from lorun.training.weights import load_checkpoint, load_state, save_checkpoint

CHECKPOINT = "checkpoint.pt"


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

    def resume(self, path: Path, key: str, device: torch.device) -> None:
        """Load the checkpoint that `save` wrote, if there is one.

        Raises:
            LorunError: the checkpoint is damaged, belongs to another run, or does not fit the network.
        """
        if not path.exists():
            return
        saved = load_checkpoint(path)
        if saved.get("key") != key:
            raise LorunError(
                f"{path}: belongs to another experiment (key {saved.get('key')}, not {key}); remove it to start "
                "the run again"
            )
        try:
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
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise LorunError(
                f"{path}: not a checkpoint of this version ({error!r}); remove it to start the run again"
            ) from error
