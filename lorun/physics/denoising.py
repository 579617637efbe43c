"""Denoising: the measurement is the image itself with Gaussian noise.

Its one-stage network is a blind denoiser D(y), since x_0 = y leaves the gradient step nothing to correct. Trained over
a range of noise levels, as DnCNN-B was (Zhang, Zuo, Chen, Meng and Zhang, "Beyond a Gaussian Denoiser", IEEE TIP 2017),
it is a base for other tasks. With `noise_map` the denoiser gets the level of each image as an input, as FFDNet does
(Zhang, Zuo and Zhang, "FFDNet: Toward a Fast and Flexible Solution for CNN-Based Image Denoising", IEEE TIP 2018), for
plug-and-play methods.
"""

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from lorun.physics.base import Operator, OperatorConfig

NoiseLevel = Annotated[float, Field(ge=0, le=255)]
"""Standard deviation, grey levels of 255."""


class Denoising(Operator):
    """A is the identity; y = x + n with Gaussian n. x, y: (B, C, H, W), any size. Arguments as in `DenoisingConfig`."""

    def __init__(
        self, *, noise: float = 25.0, noise_range: tuple[float, float] | None = None, noise_seed: int = 0
    ) -> None:
        super().__init__()
        self.levels = (noise, noise)
        self.training_levels = self.levels if noise_range is None else noise_range
        self.noise_seed = noise_seed

    def for_training(self, size: tuple[int, int], random: np.random.Generator) -> Self:
        seed = int(random.integers(2**63))
        return self.bound(size=size, levels=self.training_levels, noise_seed=seed)

    def A(self, x: Tensor, **_: object) -> Tensor:
        return x

    def A_adjoint(self, y: Tensor, **_: object) -> Tensor:
        return y

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **_: object) -> Tensor:
        return (z + gamma * y) / (1 + gamma)

    def forward(self, x: Tensor, **_: object) -> Tensor:
        """Measure x: add noise, to each image of the batch at a level from the range."""
        generator = torch.Generator(x.device).manual_seed(self.noise_seed)
        level = self._draw_levels(x, generator)
        noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return x + level * noise

    def noise_level(self, y: Tensor) -> Tensor:
        """The levels that `forward` draws, which come first in its random stream."""
        return self._draw_levels(y, torch.Generator(y.device).manual_seed(self.noise_seed))

    def _draw_levels(self, images: Tensor, generator: torch.Generator) -> Tensor:
        low, high = self.levels
        share = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device, dtype=images.dtype)
        return (low + (high - low) * share) / 255


class DenoisingConfig(OperatorConfig):
    """Gaussian noise alone."""

    name: Literal["denoising"] = "denoising"
    noise: NoiseLevel = Field(25.0, description="standard deviation at scoring, grey levels of 255")
    noise_range: tuple[NoiseLevel, NoiseLevel] | None = Field(
        None, description="lowest and highest of a training step, drawn for each image of a batch; null is `noise`"
    )
    noise_seed: int = Field(0, ge=0, description="seed of the noise in every test image")
    noise_map: bool = Field(False, description="give the denoiser the noise level of each image, as an input map")

    task: ClassVar[str] = "denoising"

    @model_validator(mode="after")
    def _range_rises(self) -> Self:
        if self.noise_range is not None and self.noise_range[0] > self.noise_range[1]:
            raise ValueError(f"`noise_range` (={list(self.noise_range)}) must be [low, high]")
        return self

    def build(self, dtype: torch.dtype = torch.float32) -> Denoising:
        return Denoising(noise=self.noise, noise_range=self.noise_range, noise_seed=self.noise_seed)

    @property
    def kind(self) -> str:
        return f"gaussian_noise{self.noise:g}" + ("_known" if self.noise_map else "")

    @property
    def heading(self) -> str:
        trained = "" if self.noise_range is None else ", trained over {:g} to {:g}".format(*self.noise_range)
        known = ", known to the denoiser" if self.noise_map else ""
        return f"Gaussian noise {self.noise:g}/255{trained}{known}"

    @property
    def published_as(self) -> float | str:
        return f"sigma{self.noise:g}"

    @property
    def noise_level_input(self) -> bool:
        return self.noise_map
