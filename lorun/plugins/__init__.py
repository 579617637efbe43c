"""Networks to compare with, one folder each.

A folder `baselines/NAME/` holds

* `baseline.py` with a class `Baseline(nn.Module)`: `Baseline(physics, channels)` builds it for an operator, and
  `model(y, physics)` returns an estimate of x. The class method `unsupported(physics, channels)` returns the reason
  why it cannot be used with an operator, or None. A network without trainable parameters is scored without training.
* `card.yaml`: what `Card` asks for: title, citation, licence, published parameters, what differs from the paper, ...

A trainable one goes through the same loop, patches and budget as the sharing strategies. Folders elsewhere and those of
installed packages are baselines too (`lorun.plugins.places`).
"""

import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lorun.config import explain
from lorun.errors import LorunError
from lorun.plugins.places import FOLDER as FOLDER
from lorun.plugins.places import Place, find, own_names

if TYPE_CHECKING:
    from torch import nn

_ASKED = (
    "class Baseline(nn.Module) with __init__(self, physics, channels), the class method unsupported(cls, physics, "
    "channels) and forward(self, y, physics)"
)


class Card(BaseModel):
    """`card.yaml`: where a baseline comes from and what it may be used for."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    title: str = Field(min_length=1)
    citation: str = Field(min_length=1)
    source: str = Field(min_length=1, description="where the authors publish it: address of a repository or a paper")
    licence: str = Field(min_length=1, description="of this implementation")
    redistribution: Literal["yes", "no", "not stated"] = Field(description="may this implementation be passed on?")
    tasks: list[str] = Field(min_length=1)
    published_parameters_M: float | None = Field(gt=0, description="millions, as the authors count them")
    published_operator_parameters: int = Field(
        0, ge=0, description="parameters of the sampling operator within published_parameters_M; ours count without"
    )
    parameters_differ: str | None = Field(None, description="why ours are more than 2 % off, where they are")
    differs: str = Field(description="what differs from the paper")
    released_names: dict[str, str] = Field(
        default_factory=dict,
        description="how released state dicts name what we have: regular expression -> our name, first match wins",
    )

    @property
    def published_network_parameters(self) -> int | None:
        """Published parameters without the operator."""
        if self.published_parameters_M is None:
            return None
        return round(self.published_parameters_M * 1e6) - self.published_operator_parameters


def names() -> list[str]:
    """Every baseline of this folder."""
    return own_names()


def card(reference: str) -> Card:
    """What `card.yaml` of a baseline says.

    Raises:
        UnknownName: there is no such baseline.
        LorunError: the card is missing or incomplete; the keys are named.
    """
    return read_card(find(reference).folder / "card.yaml")


def read_card(path: Path) -> Card:
    """A card from its file; raises as `card`."""
    try:
        return Card.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise LorunError(f"{path} is missing: a baseline needs a card with {', '.join(Card.model_fields)}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LorunError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise LorunError(f"{path}: {explain(error, Card.model_fields)}") from error


def load(reference: str) -> Any:
    """The class `Baseline` of a baseline.

    Raises:
        UnknownName: there is no such baseline.
        LorunError: its module cannot be imported, or lacks what is asked of it: the error says what to implement.
    """
    place = find(reference)
    path = place.folder / "baseline.py"
    try:
        module = import_module(f"{place.module or _as_package(place)}.baseline")
    except LorunError:
        raise
    except Exception as error:  # whatever the code of another raises
        raise LorunError(
            f"{path}: cannot be imported: {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
    baseline = getattr(module, "Baseline", None)
    lacking = _lacking(baseline)
    if lacking:
        raise LorunError(f"{path}: {lacking}. Implement {_ASKED}")
    return baseline


def build(reference: str, physics: "nn.Module", channels: int) -> "nn.Module":
    """A fresh baseline for `physics` and images of `channels` channels.

    Raises:
        UnknownName: there is no such baseline.
        LorunError: its code is not what is asked of it; it unsupported this physics, and the reason is given.
    """
    baseline = load(reference)
    reason = baseline.unsupported(physics, channels)
    if reason is not None:
        raise LorunError(f"baseline {reference} cannot be used here: {reason}")
    network: nn.Module = baseline(physics, channels)
    return network


def _lacking(baseline: Any) -> str | None:
    """What a class lacks of a baseline."""
    from torch import nn

    if baseline is None:
        return "there is no `Baseline`"
    if not isinstance(baseline, type) or not issubclass(baseline, nn.Module):
        return f"`Baseline` (={baseline!r}) is no subclass of torch.nn.Module"
    if not callable(getattr(baseline, "unsupported", None)):
        return "`Baseline` has no class method `unsupported`"
    if baseline.forward is nn.Module.forward:
        return "`Baseline` has no `forward`"
    return None


def _as_package(place: Place) -> str:
    """Import a folder from anywhere as a package of its own, so that its modules can import each other with a dot.

    Two folders of one name are two packages, and none is in the way of an installed one.
    """
    name = f"_lorun_outside_{place.digest}_{place.name}"
    if name in sys.modules:
        return name
    init = place.folder / "__init__.py"
    module = ModuleType(name)
    module.__path__ = [str(place.folder)]
    if init.is_file():
        spec: Any = spec_from_file_location(name, init, submodule_search_locations=[str(place.folder)])
        module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        if init.is_file():
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return name
