"""Make a baseline of a network from elsewhere: a reconstructor of deepinv, or any module from image to image.

    Baseline = from_reconstructor(lambda physics, channels: ArtifactRemoval(DnCNN(channels, channels, pretrained=None)))
    Baseline = from_module(lambda channels: MyNetwork(channels), multiple=8)

Beside its imports, `baseline.py` needs no more than such a line.
"""

from collections.abc import Callable
from typing import Any

from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from lorun.plugins.full_precision import in_full_precision
from lorun.plugins.padding import Padded
from lorun.unfolding import initial_reconstruction

Unsupported = Callable[[object, int], str | None]


def needs_linear(physics: object, channels: int) -> str | None:
    """The reason why a network that starts from A^T y cannot be used with an operator, or None."""
    return None if isinstance(physics, LinearPhysics) else f"{type(physics).__name__} is not linear"


def from_reconstructor(
    make: Callable[[Any, int], nn.Module], *, unsupported: Unsupported = needs_linear, data_dependent: bool = False
) -> type[nn.Module]:
    """The class `Baseline` for a model that is called `model(y, physics)`, such as deepinv's algorithms and networks.

    The operator computes in full precision, whatever the network's layers compute in.

    Args:
        make: called with the operator and the number of channels of an image, returns a fresh model.
        unsupported: called with the same, returns the reason why the model cannot be used there, or None.
        data_dependent: its course depends on values: an algorithm that stops when it has converged, for example.
    """

    class Baseline(nn.Module):
        def __init__(self, physics: LinearPhysics, channels: int) -> None:
            super().__init__()
            self.model = make(physics, channels)
            self.data_dependent = data_dependent

        def forward(self, y: Tensor, physics: LinearPhysics) -> Tensor:
            estimate: Tensor = self.model(y, in_full_precision(physics))
            return estimate

    Baseline.unsupported = staticmethod(unsupported)  # type: ignore[attr-defined]
    return Baseline


def from_module(
    make: Callable[[int], nn.Module],
    *,
    multiple: int = 1,
    residual: bool = False,
    unsupported: Unsupported = needs_linear,
) -> type[nn.Module]:
    """The class `Baseline` for a module from image to image (B, C, H, W), applied to the initial reconstruction.

    Args:
        make: called with the number of channels, returns a fresh module.
        multiple: what the sides of its images must be a multiple of; other images are padded, then cropped.
        residual: its output is added to the initial reconstruction, in full precision.
        unsupported: called with the operator and the number of channels, returns the reason why it cannot be used
            there, or None.
    """

    class Baseline(nn.Module):
        def __init__(self, physics: LinearPhysics, channels: int) -> None:
            super().__init__()
            self.module = Padded(make(channels), multiple)

        def forward(self, y: Tensor, physics: LinearPhysics) -> Tensor:
            x = initial_reconstruction(y, physics)
            estimate: Tensor = self.module(x)
            return x + estimate.to(x.dtype) if residual else estimate

    Baseline.unsupported = staticmethod(unsupported)  # type: ignore[attr-defined]
    return Baseline
