"""Networks to compare with, one folder each.

A folder `baselines/NAME/` holds

* `baseline.py` with a class `Baseline(nn.Module)`: `Baseline(physics, channels)` builds it for an operator, and
  `model(y, physics)` returns an estimate of x. The class method `declines(physics, channels)` returns the reason why it
  cannot be used with an operator, or None. A network without trainable parameters is scored without training.
* `card.yaml`: title, citation, licence, tasks, published parameters and what differs from the paper.

A trainable one goes through the same loop, patches and budget as the sharing strategies.
"""

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from lorun.errors import LorunError, UnknownName

FOLDER = Path(__file__).parent


@cache
def names() -> list[str]:
    """Every baseline there is."""
    return sorted(path.parent.name for path in FOLDER.glob("*/baseline.py"))


def card(name: str) -> dict[str, Any]:
    """What `card.yaml` of baseline `name` says."""
    _check(name)
    said: dict[str, Any] = yaml.safe_load((FOLDER / name / "card.yaml").read_text(encoding="utf-8"))
    return said


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
