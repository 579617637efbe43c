"""What every method is: a typed specification that declares only what the method reads."""

from abc import ABC, abstractmethod
from typing import Any

from pydantic import Field
from torch import nn

from lorun.config.section import Section, settings
from lorun.config.training import TrainingConfig
from lorun.physics import Operator


class TrainingData(Section):
    """The data that a training reads."""

    train: str = Field(description="dataset whose train split is learned from")
    validation: str = Field(description="dataset whose validation split watches the training")
    mosaic: bool = Field(False, description="make half of each batch 2 x 2 mosaics of crops of half the side")
    gain: float = Field(
        0.0,
        ge=0,
        le=2,
        description="multiply each patch with a random gain, smooth over the bands: its spread, e.g. 0.4",
    )


class Method(Section, ABC):
    """How images are reconstructed. Subclasses add fields; `kind` tells them apart in JSON.

    A method that is trained has the fields `training` and `data`; one that builds on a trained network has `base`, the
    experiment that trains that network; one whose number of stages is a choice has `stages`.
    """

    kind: str
    name: str = Field(description="what tables call it")

    @abstractmethod
    def build(self, physics: Operator, channels: int, noise_map: bool = False) -> nn.Module:
        """A freshly initialised network, called as `network(y, physics)`.

        `noise_map`: its denoisers get the noise level of each measurement as an input map.
        """

    @property
    def installed_code(self) -> str | None:
        """What identifies code that is not part of this repository; None where there is none."""
        return None

    def identity(self) -> dict[str, Any]:
        """What can change the trained weights, as JSON."""
        found = {name: value for name, value in settings(self).items() if name not in ("name", "base", "training")}
        training: TrainingConfig | None = getattr(self, "training", None)
        if training is not None:
            all_settings = settings(training).items()
            found["training"] = {
                name: value for name, value in all_settings if name not in TrainingConfig.WITHOUT_EFFECT
            }
        base = getattr(self, "base", None)
        if base is not None:
            found["base"] = base.key
        return found

    def step_identity(self) -> dict[str, Any]:
        """What can change the counted parameters, bytes and FLOPs, as JSON."""
        found = self.identity()
        for unrelated in ("training", "data", "base", "weights"):
            found.pop(unrelated, None)
        training: TrainingConfig | None = getattr(self, "training", None)
        if training is not None:
            found["step"] = training.model_dump(mode="json", include=TrainingConfig.SHAPES_STEP)
        return found
