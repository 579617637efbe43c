"""Baselines: networks and algorithms from plug-in folders, see `lorun.plugins`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import quote

from pydantic import Field
from torch import nn

from lorun import plugins
from lorun.config.training import TrainingConfig
from lorun.methods.base import Method, TrainingData
from lorun.methods.strategies import PRESETS
from lorun.physics import Operator

if TYPE_CHECKING:
    from lorun.methods.experiment import Experiment


class Plugin(Method):
    """A baseline; subclasses say where its weights come from."""

    reference: str = Field(description="what finds it: a name, the path of a folder, or an entry point")
    options: dict[str, Any] = Field(default_factory=dict, description="the baseline's own options")
    package: str | None = Field(None, description="name and version of the installed package that it is part of")
    digest: str | None = Field(None, description="hash of its code, where that is not part of this repository")

    def build(self, physics: Operator, channels: int, noise_map: bool = False) -> nn.Module:
        base: Experiment | None = getattr(self, "base", None)
        built = None if base is None else base.build_network(base.physics.build())
        return plugins.build(self.reference, physics, channels, self.options, built)

    @property
    def installed_code(self) -> str | None:
        if self.digest is None:
            return None
        return f"{self.name}={self.digest}@{quote(self.package or self.reference)}"

    def identity(self) -> dict[str, Any]:
        found = super().identity()
        found.pop("package", None)
        if self.digest is not None:  # the code counts, wherever it lies
            found["reference"] = self.name
        return found


class Trained(Plugin):
    """A baseline that is trained by the suite's loop."""

    kind: Literal["trained"] = "trained"
    base: "Experiment | None" = Field(None, description="training of the network that it starts from")
    training: TrainingConfig
    data: TrainingData


class Untrained(Plugin):
    """A baseline without trainable parameters, which may build on a pretrained network."""

    kind: Literal["untrained"] = "untrained"
    base: "Experiment | None" = Field(None, description="training of the network that it uses")


class Released(Plugin):
    """A baseline with the weights that its authors released."""

    kind: Literal["released"] = "released"
    weights: Path = Field(description="file of released weights")


class Located(NamedTuple):
    """Where a baseline is; `fields` are those of `Plugin`."""

    name: str
    reference: str
    trained: bool
    fields: dict[str, Any]


def locate(reference: str) -> Located:
    """Find a baseline and read its card.

    Raises as `lorun.plugins.find` and `lorun.plugins.card`, and LorunError where it has the name of a strategy.
    """
    place = plugins.find(reference)
    plugins.check_name(place.name, reserved=PRESETS)
    fields: dict[str, Any] = {"name": place.name, "reference": reference}
    if place.outside:
        fields |= {"package": place.package, "digest": place.digest}
    return Located(place.name, reference, plugins.card(reference).trained, fields)
