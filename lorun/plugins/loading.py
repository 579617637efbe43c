"""Load the class `Baseline` of a baseline and build its network.

Every folder is imported by its path, as a package of its own: its modules import each other with a dot
(`from .layers import Stage`), and two folders of the same name do not meet.
"""

import sys
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from lorun.code import digest
from lorun.config.section import Section, explain
from lorun.errors import LorunError, one_line
from lorun.plugins.places import Place, find

if TYPE_CHECKING:
    from torch import nn

PREFIX = "lorun_plugin_"
"""Begins the name under which `sys.modules` holds a folder."""

_INTERFACE = (
    "class Baseline(nn.Module) with __init__(self, physics, channels), the class method unsupported(cls, physics, "
    "channels) and forward(self, y, physics)"
)


def load(reference: str) -> Any:
    """The class `Baseline` of a baseline.

    Raises:
        LorunError: its module cannot be imported, or the class is incomplete; the error says what to implement. Also as
            `find`.
    """
    place = find(reference)
    path = place.folder / "baseline.py"
    try:
        module = import_module(f"{place.module or _register(place)}.baseline")
    except LorunError:
        raise
    except Exception as error:  # the module may raise anything
        raise LorunError(f"{path}: cannot be imported: {type(error).__name__}: {one_line(error)}") from error
    baseline = getattr(module, "Baseline", None)
    problem = _problem(baseline)
    if problem:
        raise LorunError(f"{path}: {problem}. Implement {_INTERFACE}")
    return baseline


def check_options(reference: str, options: Mapping[str, Any]) -> Section | None:
    """Validate the options of a baseline; None where it declares none. Raises LorunError, also as `load`."""
    declared: type[Section] | None = getattr(load(reference), "Options", None)
    if declared is None:
        if options:
            raise LorunError(f"baseline {reference} has no options, so it cannot take {', '.join(options)}")
        return None
    try:
        return declared.model_validate(dict(options))
    except ValidationError as error:
        raise LorunError(f"options of baseline {reference}: {explain(error, declared.model_fields)}") from error


def build(
    reference: str,
    physics: "nn.Module",
    channels: int,
    options: Mapping[str, Any] | None = None,
    base: "nn.Module | None" = None,
    **arguments: Any,
) -> "nn.Module":
    """A freshly initialised baseline for an operator and images of `channels` channels.

    Args:
        options: for the class `Baseline.Options`, where there is one.
        base: the freshly built base network, for a baseline with `takes_base = True`.
        arguments: further arguments of the class, such as its number of stages.

    Raises:
        LorunError: the operator is not supported, options are invalid, the base is missing or not wanted; or as `load`.
    """
    baseline = load(reference)
    reason = baseline.unsupported(physics, channels)
    if reason is not None:
        raise LorunError(f"baseline {reference} cannot be used here: {reason}")
    checked = check_options(reference, options or {})
    takes_base = getattr(baseline, "takes_base", False)
    if takes_base != (base is not None):
        raise LorunError(f"baseline {reference} {'needs' if takes_base else 'does not take'} a pretrained base")
    if takes_base:
        arguments["base"] = base
    network: nn.Module = baseline(physics, channels, *([] if checked is None else [checked]), **arguments)
    return network


def _problem(baseline: Any) -> str | None:
    """What is wrong with the interface of a class, or None."""
    from torch import nn

    if baseline is None:
        return "there is no `Baseline`"
    if not isinstance(baseline, type) or not issubclass(baseline, nn.Module):
        return f"`Baseline` (={baseline!r}) is no subclass of torch.nn.Module"
    if not callable(getattr(baseline, "unsupported", None)):
        return "`Baseline` has no class method `unsupported`"
    if baseline.forward is nn.Module.forward:
        return "`Baseline` has no `forward`"
    options = getattr(baseline, "Options", Section)
    if not isinstance(options, type) or not issubclass(options, Section):
        return f"`Baseline.Options` (={options!r}) is no subclass of lorun.config.section.Section"
    if getattr(baseline, "takes_base", False) and not callable(getattr(baseline, "load_base", None)):
        return "`Baseline` has `takes_base` but no method `load_base(self, state, step_size)`"
    return None


def _register(place: Place) -> str:
    """Make a folder importable as a package; the package's name, which changes with the folder's path and code."""
    name = f"{PREFIX}{place.name}_{digest(f'{place.folder} {place.digest}'.encode())}"
    if name not in sys.modules:
        package = ModuleType(name)
        package.__path__ = [str(place.folder)]
        sys.modules[name] = package
    return name
