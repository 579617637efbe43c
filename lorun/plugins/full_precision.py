"""Parts of a network that stay in full precision while its other layers compute in bfloat16."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

_METHODS = ("A", "A_adjoint", "A_dagger", "prox_l2")


class ImageConv(nn.Conv2d):
    """For a convolution that no skip connection bypasses: the whole image passes through it, and so would its rounding
    errors."""

    def forward(self, h: Tensor) -> Tensor:
        with torch.autocast(h.device.type, enabled=False):
            return super().forward(h.to(self.weight.dtype))


def in_full_precision(physics: LinearPhysics) -> LinearPhysics:
    """The same operator, never computing in half precision; shares parameters and buffers."""
    exact = copy.copy(physics)
    for name in _METHODS:
        object.__setattr__(exact, name, _in_full_precision(getattr(physics, name)))
    return exact


def _in_full_precision(function: Callable[..., Any]) -> Callable[..., Any]:
    def called(*arguments: Any, **options: Any) -> Any:
        device = next(argument for argument in arguments if isinstance(argument, Tensor)).device.type
        with torch.autocast(device, enabled=False):
            return function(*map(_as_float, arguments), **options)

    return called


def _as_float(argument: Any) -> Any:
    half = isinstance(argument, Tensor) and argument.dtype in (torch.bfloat16, torch.float16)
    return argument.float() if half else argument
