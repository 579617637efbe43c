"""Networks that were made elsewhere, as baselines: whatever deepinv calls a reconstructor, and any module from image to
image.

    Baseline = from_reconstructor(lambda physics, channels: ArtifactRemoval(DnCNN(channels, channels, pretrained=None)))
    Baseline = from_module(lambda channels: MyNetwork(channels), multiple=8)

is all that a `baseline.py` needs beside its imports.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from lorun.plugins.snapshot import pad_to_multiple
from lorun.unfolding import initial_reconstruction

Unsupported = Callable[[object, int], str | None]

_OF_PHYSICS = ("A", "A_adjoint", "A_dagger", "prox_l2")


def needs_linear(physics: object, channels: int) -> str | None:
    """The reason why what starts from A^T y cannot be used with an operator, or None."""
    return None if isinstance(physics, LinearPhysics) else f"{type(physics).__name__} is not linear"


def from_reconstructor(
    make: Callable[[Any, int], nn.Module], *, unsupported: Unsupported = needs_linear, data_dependent: bool = False
) -> type[nn.Module]:
    """The class `Baseline` of what is called `model(y, physics)`, as deepinv's algorithms and networks are.

    The operator's own computations stay in full precision, whatever the network's layers compute in.

    Args:
        make: called with the operator and the number of channels of an image, returns a fresh model.
        unsupported: called with the same, returns the reason why the model cannot be used there, or None.
        data_dependent: its course depends on values, as that of an algorithm that stops when it has converged does.
    """

    class Baseline(nn.Module):
        def __init__(self, physics: LinearPhysics, channels: int) -> None:
            super().__init__()
            self.model = make(physics, channels)
            self.data_dependent = data_dependent

        @classmethod
        def unsupported(cls, physics: object, channels: int) -> str | None:
            return unsupported(physics, channels)

        def forward(self, y: Tensor, physics: LinearPhysics) -> Tensor:
            estimate: Tensor = self.model(y, in_full_precision(physics))
            return estimate

    return Baseline


def from_module(
    make: Callable[[int], nn.Module],
    *,
    multiple: int = 1,
    residual: bool = False,
    unsupported: Unsupported = needs_linear,
) -> type[nn.Module]:
    """The class `Baseline` of a module that maps an image (B, C, H, W) to a better one, from the first estimate.

    Args:
        make: called with the number of channels, returns a fresh module.
        multiple: of the sides that it takes; others are padded for it and cut again.
        residual: what it returns is added to the first estimate, in full precision.
        unsupported: called with the operator and the number of channels, returns the reason why it cannot be used
            there, or None.
    """

    class Baseline(nn.Module):
        def __init__(self, physics: LinearPhysics, channels: int) -> None:
            super().__init__()
            self.module = Padded(make(channels), multiple)

        @classmethod
        def unsupported(cls, physics: object, channels: int) -> str | None:
            return unsupported(physics, channels)

        def forward(self, y: Tensor, physics: LinearPhysics) -> Tensor:
            x = initial_reconstruction(y, physics)
            estimate: Tensor = self.module(x)
            return x + estimate.to(x.dtype) if residual else estimate

    return Baseline


class Padded(nn.Module):
    """A module from image to image, for images of any size: the last row and column are repeated up to a multiple."""

    def __init__(self, module: nn.Module, multiple: int) -> None:
        super().__init__()
        self.module = module
        self.multiple = multiple

    def forward(self, x: Tensor, *more: Any) -> Tensor:
        """(B, C, H, W) -> same; what else the module takes is passed on."""
        height, width = x.shape[2:]
        estimate: Tensor = self.module(pad_to_multiple(x, self.multiple), *more)
        return estimate[..., :height, :width]


def in_full_precision(physics: LinearPhysics) -> LinearPhysics:
    """The same operator, never computing in half precision; shares parameters and buffers."""
    exact = copy.copy(physics)
    for name in _OF_PHYSICS:
        object.__setattr__(exact, name, _in_full_precision(getattr(physics, name)))
    return exact


def _in_full_precision(function: Callable[..., Any]) -> Callable[..., Any]:
    def called(*arguments: Any, **settings: Any) -> Any:
        with torch.autocast(_first(arguments).device.type, enabled=False):
            return function(*(_restored(argument) for argument in arguments), **settings)

    return called


def _first(arguments: tuple[Any, ...]) -> Tensor:
    return next(argument for argument in arguments if isinstance(argument, Tensor))


def _restored(argument: Any) -> Any:
    half = isinstance(argument, Tensor) and argument.dtype in (torch.bfloat16, torch.float16)
    return argument.float() if half else argument
