"""What the suite asks of a measurement model beyond A and its adjoint."""

import copy
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np
from deepinv.physics import LinearPhysics
from torch import Tensor

from lorun.errors import UnknownName

Patches = Callable[[int, int], Iterator[Tensor]]
"""Called with a side and a count: so many square patches of training images at random places, as chunks (N, side**2)
of float64 in [0, 1]; channels count as images."""


class Operator(LinearPhysics):
    """A measurement model, for one image size once bound with `at` or `for_training`.

    What a subclass does not say otherwise: any image can be measured, nothing is fitted, the first estimate and the
    gradient step are those of a plain operator, and a training step measures as a reconstruction does.

    Attributes:
        smallest: side of the smallest image that is scored, pixels.
        decimation: how many times a side of the image is that of its measurement; 1 where that says nothing.
        size: (height, width) of the images that it is bound to, or None.
        degradations: names of the variants under each of which a test image is measured and scored (see `under`); none
            where there is one way of measuring.
    """

    smallest = 1
    decimation = 1
    size: tuple[int, int] | None = None
    degradations: tuple[str, ...] = ()

    def at(self, height: int, width: int) -> Self:
        """This operator for images of `height` x `width` pixels; shares everything else.

        Raises:
            LorunError: there is no measuring images of that size.
        """
        return self.bound(size=(height, width))

    def for_training(self, side: int, random: np.random.Generator) -> Self:
        """This operator for square patches in one training step; what the step leaves to chance is drawn from
        `random`."""
        return self.bound(size=(side, side))

    def bound(self, **attributes: Any) -> Self:
        """A shallow copy with other attributes; parameters and buffers are shared."""
        bound = copy.copy(self)
        for name, value in attributes.items():
            object.__setattr__(bound, name, value)
        return bound

    def under(self, degradation: str) -> Self:
        """This operator under one of its degradations; one network serves all of them.

        Raises:
            UnknownName: it has no such degradation.
        """
        raise UnknownName("degradation", degradation, self.degradations)

    def noise_level(self, y: Tensor) -> Tensor:
        """Standard deviation of the Gaussian noise in each measurement of a batch, (B, 1, 1, 1), in the units of y."""
        return y.new_zeros(len(y), 1, 1, 1)

    def scored_size(self, height: int, width: int) -> tuple[int, int]:
        """What is left of an image of `height` x `width` pixels, cropped at the right and below, when it is scored."""
        return height, width

    def scene_of(self, height: int, width: int) -> tuple[int, int]:
        """Size of the image whose measurement is `height` x `width`."""
        return height, width

    def fit(self, patches: Patches) -> None:
        """Fit what the first estimate learns from training images, if anything."""

    def initial_reconstruction(self, y: Tensor) -> Tensor:
        """x_0 from a measurement."""
        estimate: Tensor = self.A_adjoint(y)
        return estimate

    def back_project(self, residual: Tensor) -> Tensor:
        """What a gradient step subtracts, times its size: A^T r, or (A^T A)-preconditioned where that is needed."""
        projected: Tensor = self.A_adjoint(residual)
        return projected
