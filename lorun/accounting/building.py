"""A new network, physics and images to count on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from lorun.config import Recompute
from lorun.errors import LorunError
from lorun.methods import Experiment
from lorun.system import build_system, set_recompute, training_physics

if TYPE_CHECKING:
    from deepinv.physics import LinearPhysics

#: Makes a network, called as ``network(y, physics)``, and its physics, called as ``physics.A(x)``. Each call must make
#: new ones, on the CPU: counting a training step changes their weights.
Build = Callable[[], "tuple[nn.Module, LinearPhysics]"]


def step_build(experiment: Experiment, patch: tuple[int, int], recompute: Recompute = "none") -> Build:
    """Build the network and the physics for a step on patches of (height, width) pixels."""

    def build() -> tuple[Any, Any]:
        system = build_system(experiment)
        set_recompute(system.network, recompute)
        return system.network, training_physics(system, patch)

    return build


def inference_build(experiment: Experiment) -> Build:
    """Build the network and the physics for the reconstruction of one image of the accounting's size.

    Building raises LorunError if images of that size are cropped before they are measured.
    """

    def build() -> tuple[Any, Any]:
        system = build_system(experiment)
        side = experiment.accounting.image
        scored = system.physics.scored_size(side, side)
        if scored != (side, side):
            raise LorunError(
                f"images of {side} pixels are cropped to {scored[0]} when they are scored: change `accounting.image`"
            )
        return system.network, system.physics.at(side, side)

    return build


@contextmanager
def separate_operators() -> Iterator[None]:
    """Turn off PyTorch's fused transformer layers, which hide their operators from counters."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def make_modules(build: Build, *, fake: bool) -> "tuple[nn.Module, LinearPhysics]":
    """Call ``build``, inside `fake_tensors` if ``fake``.

    Raises:
        LorunError: ``fake``, but a parameter is real, so its module was not made in ``build``.
    """
    network, physics = build()
    for module in (network, physics) if fake else ():
        for name, parameter in module.named_parameters():
            if not isinstance(parameter, FakeTensor):
                raise LorunError(f"{type(module).__name__}.{name} is a real tensor: make its module inside build()")
    return network, physics


def image_batch(shape: tuple[int, ...], device: torch.device | str = "cpu") -> torch.Tensor:
    """Images of ``shape``, uniform in [0, 1), without using a global random generator."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)
