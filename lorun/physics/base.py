"""The interface of a measurement model, and of its section of a profile."""

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from lorun.config.section import Section
from lorun.errors import UnknownName

Patches = Callable[[int, int], Iterator[Tensor]]
"""Called with a side and a count: that many square patches of training images at random places, as chunks (N, side**2)
of float64 in [0, 1]; channels count as images."""


class Operator(LinearPhysics):
    """A measurement model, for one image size once bound with `at` or `for_training`.

    A subclass defines `A` and `A_adjoint`. By default it measures images of any size, fits nothing, starts from A^T y,
    takes gradient steps along A^T, and measures in training as in scoring.

    Attributes:
        smallest: side of the smallest image that is scored, pixels.
        decimation: ratio of the side of an image to that of its measurement.
        size: (height, width) of the images that it is bound to, or None.
        degradations: names of the variants that each test image is measured and scored under (see `under`); empty where
            there is only one.
    """

    smallest = 1
    decimation = 1
    size: tuple[int, int] | None = None
    degradations: tuple[str, ...] = ()

    def at(self, height: int, width: int) -> Self:
        """This operator for images of `height` x `width` pixels; everything else is shared.

        Raises:
            LorunError: it cannot measure images of that size.
        """
        return self.bound(size=(height, width))

    def for_training(self, size: tuple[int, int], random: np.random.Generator) -> Self:
        """This operator for the patches of one training step, (height, width), with its random parts drawn from
        `random`."""
        return self.bound(size=size)

    def bound(self, **attributes: Any) -> Self:
        """A shallow copy with other attributes; parameters and buffers are shared."""
        bound = copy.copy(self)
        for name, value in attributes.items():
            object.__setattr__(bound, name, value)
        return bound

    def under(self, degradation: str) -> Self:
        """This operator under one of its degradations.

        Raises:
            UnknownName: it has no such degradation.
        """
        raise UnknownName("degradation", degradation, self.degradations)

    def noise_level(self, y: Tensor) -> Tensor:
        """Standard deviation of the Gaussian noise in each measurement of a batch, (B, 1, 1, 1), in the units of y."""
        return y.new_zeros(len(y), 1, 1, 1)

    def scored_size(self, height: int, width: int) -> tuple[int, int]:
        """Size that an image of `height` x `width` pixels is cropped to, at the right and bottom, before scoring."""
        return height, width

    def scene_of(self, height: int, width: int) -> tuple[int, int]:
        """Size of the image whose measurement is `height` x `width`."""
        return height, width

    def fit(self, patches: Patches) -> None:
        """Fit the initial reconstruction to training images, if it has anything to fit."""

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **options: Any) -> Tensor:
        """argmin over x of gamma/2 |A x - y|^2 + 1/2 |x - z|^2; gamma a number, or (B, 1, 1, 1).

        By deepinv's conjugate gradients, with these options, unless the operator has a closed form.
        """
        x: Tensor = super().prox_l2(z, y, gamma, **options)
        return x

    def initial_reconstruction(self, y: Tensor) -> Tensor:
        """x_0 from a measurement."""
        estimate: Tensor = self.A_adjoint(y)
        return estimate

    def back_project(self, residual: Tensor) -> Tensor:
        """The direction of a gradient step: A^T r, or A^T r preconditioned by an inverse of A A^T."""
        projected: Tensor = self.A_adjoint(residual)
        return projected


class OperatorConfig(Section):
    """The section of an operator: the keys of a profile, and what the suite needs to know about them.

    A subclass has `name: Literal[...]` with the name of its module as default, and defines `build`, `kind` and
    `heading`.
    """

    name: str

    task: ClassVar[str]
    """What cards of baselines and published tables call the inverse problem."""

    @abstractmethod
    def build(self, dtype: torch.dtype = torch.float32) -> Operator:
        """The operator, not fitted yet (see `Operator.fit`).

        Raises:
            LorunError: one of its files is missing, unreadable or has another shape.
        """

    @property
    @abstractmethod
    def kind(self) -> str:
        """Short name of the variant, such as fixed_gaussian_33: scores of one kind are comparable."""

    @property
    @abstractmethod
    def heading(self) -> str:
        """The setting in words, for tables."""

    @property
    def training_heading(self) -> str | None:
        """The operators of training steps in words; None if they are those of the setting."""
        return None

    @property
    def published_as(self) -> float | str:
        """Key of the setting in the published scores of its kind."""
        return self.kind

    @property
    def learned(self) -> bool:
        """Whether the operator is trained with the network."""
        return False

    @property
    def fitted(self) -> bool:
        """Whether the initial reconstruction is fitted to training images."""
        return False

    @property
    def noise_level_input(self) -> bool:
        """Whether denoisers get the noise level of each measurement as an input."""
        return False

    @property
    def channels(self) -> int | None:
        """Number of channels that images must have; None allows any."""
        return None

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that the operator is built from."""
        return ()

    @property
    def degradations(self) -> tuple[str, ...]:
        """See `Operator.degradations`."""
        return ()

    @classmethod
    def example(cls) -> "Example":
        """A small operator for tests and for the contract of baselines; by default the section with its defaults."""
        config = cls()  # type: ignore[call-arg]
        channels = config.channels or 1
        return Example(config, (channels,), (config, channels))


class Example(NamedTuple):
    """A small operator to try networks on.

    Attributes:
        config: its section.
        channels: numbers of channels to try.
        published: section and number of channels that published parameter counts of networks refer to.
    """

    config: OperatorConfig
    channels: tuple[int, ...]
    published: tuple[OperatorConfig, int]
