"""Networks to compare with, one folder each.

A folder `baselines/NAME/` holds

* `baseline.py` with a class `Baseline(nn.Module)`: `Baseline(physics, channels)` builds it for an operator, and
  `model(y, physics)` returns an estimate of x. The class method `declines(physics, channels)` returns the reason why it
  cannot be used with an operator, or None. A network without trainable parameters is scored without training.
* `card.yaml`: what `Card` asks for: title, citation, licence, published parameters, what differs from the paper, ...

A trainable one goes through the same loop, patches and budget as the sharing strategies.
"""

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from lorun.config import explain
from lorun.errors import LorunError, UnknownName

FOLDER = Path(__file__).parent


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


@cache
def names() -> list[str]:
    """Every baseline there is."""
    return sorted(path.parent.name for path in FOLDER.glob("*/baseline.py"))


def card(name: str) -> Card:
    """What `card.yaml` of baseline `name` says.

    Raises:
        UnknownName: there is no such folder.
        LorunError: the card is missing or incomplete; the keys are named.
    """
    _check(name)
    path = FOLDER / name / "card.yaml"
    try:
        return Card.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise LorunError(f"{path} is missing: a baseline needs a card with {', '.join(Card.model_fields)}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LorunError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise LorunError(f"{path}: {explain(error, Card.model_fields)}") from error


def build(name: str, physics: nn.Module, channels: int) -> nn.Module:
    """A fresh baseline for `physics` and images of `channels` channels.

    Raises:
        UnknownName: there is no such folder.
        LorunError: the baseline declines this physics; the reason is given.
    """
    _check(name)
    baseline: Any = import_module(f"baselines.{name}.baseline").Baseline
    reason = baseline.declines(physics, channels)
    if reason is not None:
        raise LorunError(f"baseline {name} cannot be used here: {reason}")
    network: nn.Module = baseline(physics, channels)
    return network


def _check(name: str) -> None:
    if name not in names():
        raise UnknownName("baseline", name, names())
