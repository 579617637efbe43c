"""Coded aperture snapshot spectral imaging (CASSI): all bands of a scene on one detector.

The single-disperser model of Wagadarikar et al., "Single disperser design for coded aperture snapshot spectral imaging"
(Applied Optics 2008), as TSA-Net, MST and the unfolding networks simulate it: band b is multiplied by the mask, shifted
to the right by b times the dispersion, and all are summed. Where their papers differ, there is an option here.
"""

from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from lorun.errors import LorunError
from lorun.physics._gap import smooth_projections
from lorun.physics._matrices import read_matrix
from lorun.physics.base import Example, Operator, OperatorConfig

Scaling = Literal["none", "mst"]
Initial = Literal["normalised", "smooth", "adjoint", "shift_back"]
Gradient = Literal["normalised", "plain"]
Noise = Literal["none", "shot"]


class CASSI(Operator):
    """One snapshot of a scene through a mask and a disperser.

    x: (B, bands, H, W), values in [0, 1]. y: (B, 1, H, W + step * (bands - 1)).

    y[h, v] = gain * sum over b of mask[h, v - step*b] * x[b, h, v - step*b], so A A^T is diagonal: gain^2 times the sum
    over bands of the squared shifted mask (`row_norms`).

    Bound with `at(height, width)` it sees the scene through the top left of the mask; `for_training` through a window
    of the mask at a random place, so that a network trained on patches sees all of it. Unbound, it takes scenes of any
    size up to that of the mask, at the top left.

    Args:
        mask: (H, W), the largest scene; transmission, not negative.
        scaling: "mst" makes 2 / bands, the scale that the end-to-end networks (MST, TSA-Net, HDNet) give their input, a
            factor of A.
        initial: "normalised" is the scene of least norm that gives y; "smooth" is `smooth_projections`; "shift_back",
            the input of MST, is 2 / bands times y shifted back for each band, whatever the mask.
        gradient: a "normalised" step of size 1 projects on the measurement, as GAP does; a "plain" one is stable up to
            2 / largest row norm.
        others: as the fields of `CASSIConfig`.

    Raises:
        LorunError: the mask is not a matrix.
    """

    def __init__(
        self,
        mask: Tensor,
        *,
        bands: int = 28,
        step: int = 2,
        scaling: Scaling = "none",
        initial: Initial = "normalised",
        gradient: Gradient = "normalised",
        noise: Noise = "none",
        quantum_efficiency: float = 0.4,
        noise_bits: int = 11,
        noise_seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if mask.ndim != 2 or mask.numel() == 0:
            raise LorunError(f"the mask has shape {tuple(mask.shape)}; it needs rows and columns, (height, width)")
        self.bands = bands
        self.step = step
        self.gain = 2 / bands if scaling == "mst" else 1.0
        self.initial: Initial = initial
        self.gradient: Gradient = gradient
        self.noise: Noise = noise
        self.quantum_efficiency = quantum_efficiency
        self.noise_bits = noise_bits
        self.noise_seed = noise_seed
        self.corner = (0, 0)
        self.register_buffer("mask", mask.to(dtype).clone())

    @property
    def dispersion(self) -> int:
        """Pixels by which a measurement is wider than its scene."""
        return self.step * (self.bands - 1)

    def at(self, height: int, width: int) -> Self:
        largest = tuple(self.mask.shape)
        if height > largest[0] or width > largest[1]:
            raise LorunError(f"a scene of {height} x {width} is larger than the mask of {largest[0]} x {largest[1]}")
        return super().at(height, width)

    def for_training(self, size: tuple[int, int], random: np.random.Generator) -> Self:
        self.at(*size)
        top, left = (
            int(random.integers(length - side + 1)) for length, side in zip(self.mask.shape, size, strict=True)
        )
        return self.bound(size=size, corner=(top, left), noise_seed=int(random.integers(2**63)))

    def scene_of(self, height: int, width: int) -> tuple[int, int]:
        return height, width - self.dispersion

    def aperture(self, height: int, width: int) -> Tensor:
        """The part of the mask in front of a scene of that size: (height, width)."""
        if self.size is not None and (height, width) != self.size:
            raise LorunError(f"the operator is bound to {self.size} scenes, this one is {(height, width)}")
        top, left = self.corner
        window: Tensor = self.mask[top : top + height, left : left + width]
        if window.shape != (height, width):
            self.at(height, width)  # raises
        return window

    def shift(self, x: Tensor) -> Tensor:
        """Shift band b by b * step pixels to the right and sum: (B, bands, H, W) -> (B, 1, H, W + dispersion)."""
        batch, bands, height, width = x.shape
        if bands != self.bands:
            raise LorunError(f"the operator has {self.bands} bands, this scene {bands}")
        # The adjoint of `unfold`, which cuts one window per band out of a row: what overlaps is summed.
        summed = torch.ops.aten.unfold_backward(
            x.transpose(1, 2), [batch, height, width + self.dispersion], 2, width, self.step
        )
        return summed[:, None]

    def shift_back(self, y: Tensor) -> Tensor:
        """The window of y that belongs to each band: (B, 1, H, W + dispersion) -> (B, bands, H, W), a view."""
        if y.shape[1] != 1 or y.shape[3] <= self.dispersion:
            raise LorunError(
                f"a measurement of {self.bands} bands is (B, 1, H, W) with W above {self.dispersion}, "
                f"this one has shape {tuple(y.shape)}"
            )
        return y[:, 0].unfold(2, y.shape[3] - self.dispersion, self.step).transpose(1, 2)

    def A(self, x: Tensor, **_: object) -> Tensor:
        return self.shift(x * (self.gain * self.aperture(*x.shape[2:])))

    def A_adjoint(self, y: Tensor, **_: object) -> Tensor:
        windows = self.shift_back(y)
        return windows * (self.gain * self.aperture(*windows.shape[2:]))

    def A_dagger(self, y: Tensor, **_: object) -> Tensor:
        """A^T (A A^T)^-1 y: the scene of least norm that gives y, exact since A A^T is diagonal."""
        return self.A_adjoint(y / self.row_norms(y.shape[2], y.shape[3] - self.dispersion))

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **_: object) -> Tensor:
        """See `Operator.prox_l2`; in closed form (the HQS step of DAUHST and others)."""
        norms = self.row_norms(y.shape[2], y.shape[3] - self.dispersion)
        # From the residual: for a large gamma, float32 loses the digits of z in z + gamma A^T y.
        return z + self.A_adjoint((y - self.A(z)) / (1 / gamma + norms))

    def row_norms(self, height: int, width: int) -> Tensor:
        """The diagonal of A A^T for scenes of that size, (1, 1, height, width + dispersion).

        It is a divisor: zeros, where no light falls, are replaced by 1.
        """
        squared = (self.gain * self.aperture(height, width)) ** 2
        norms = self.shift(squared.expand(1, self.bands, -1, -1))
        return torch.where(norms > 0, norms, torch.ones_like(norms))

    def forward(self, x: Tensor, **_: object) -> Tensor:
        """Measure x, with noise if there is any."""
        y = self.A(x)
        return self.shot_noise(y) if self.noise == "shot" else y

    def noise_level(self, y: Tensor) -> Tensor:
        """0 without noise.

        Raises:
            LorunError: shot noise, whose level differs from pixel to pixel.
        """
        if self.noise == "shot":
            raise LorunError("shot noise has no single level: this method needs an operator without shot noise")
        return super().noise_level(y)

    def shot_noise(self, y: Tensor) -> Tensor:
        """The measurement in counted electrons: n ~ Binomial(floor(L f / q), q), y' = n / L in the units of y.

        f is the sum over bands times 2 / bands; q the quantum efficiency; L = 2**noise_bits. The mean is y (but for the
        floor), the variance of f about (1 - q) f / L: the model of TSA-Net (Meng, Ma and Yuan, ECCV 2020) for real
        captures.
        """
        unit = self.gain * self.bands / 2
        levels = float(2**self.noise_bits)
        photons = torch.floor(y.clamp_min(0) / unit * levels / self.quantum_efficiency)
        generator = torch.Generator(y.device).manual_seed(self.noise_seed)
        electrons = torch.binomial(photons, torch.full_like(photons, self.quantum_efficiency), generator=generator)
        return electrons / levels * unit

    def initial_reconstruction(self, y: Tensor) -> Tensor:
        if self.initial == "smooth":
            return smooth_projections(y, self)
        if self.initial == "shift_back":
            return self.shift_back(y) * (2 / self.bands / self.gain)
        return self.A_adjoint(y) if self.initial == "adjoint" else self.A_dagger(y)

    def back_project(self, residual: Tensor) -> Tensor:
        return self.A_adjoint(residual) if self.gradient == "plain" else self.A_dagger(residual)


class CASSIConfig(OperatorConfig):
    """Coded aperture snapshot spectral imaging."""

    name: Literal["cassi"] = "cassi"
    bands: int = Field(28, ge=2, le=1000, description="spectral bands of a scene")
    step: int = Field(2, ge=1, description="dispersion, pixels of shift per band")
    mask: Literal["random", "file"] = Field("random", description="origin of the mask")
    mask_seed: int = Field(0, ge=0, description="seed of the random mask of open and closed pixels")
    mask_side: int = Field(256, ge=1, description="the mask is square; also the largest scene, pixels")
    mask_file: Path | None = Field(None, description="matrix, .npy or .mat with the variable `mask`, with mask: file")
    scaling: Scaling = Field("none", description="y is the sum over bands, or that times 2 / bands")
    initial: Initial = Field(
        "normalised",
        description="initial reconstruction x_0: A^T (A A^T)^-1 y, a smooth scene that explains y, A^T y, or y shifted "
        "back",
    )
    gradient: Gradient = Field(
        "normalised", description="direction of a gradient step: A^T (A A^T)^-1 r, or A^T r, with r = A x - y"
    )
    noise: Noise = Field("none", description="shot: counted electrons, see `CASSI.shot_noise`")
    quantum_efficiency: float = Field(0.4, gt=0, le=1, description="electrons per photon, of shot noise")
    noise_bits: int = Field(11, ge=1, le=24, description="2**noise_bits electrons are the full scale, of shot noise")
    noise_seed: int = Field(0, ge=0, description="seed of the shot noise in every test scene")

    task: ClassVar[str] = "cassi"

    @model_validator(mode="after")
    def _file_goes_with_its_option(self) -> Self:
        if (self.mask == "file") != (self.mask_file is not None):
            raise ValueError("`mask: file` and `mask_file` belong together: give both or neither")
        return self

    def build(self, dtype: torch.dtype = torch.float32) -> CASSI:
        shape = (self.mask_side, self.mask_side)
        if self.mask_file is None:
            mask = random_mask(*shape, self.mask_seed)
        else:
            mask = read_matrix(self.mask_file, "mask", shape=shape, transmission=True)
        options = self.model_dump(exclude={"name", "mask", "mask_file", "mask_seed", "mask_side"})
        return CASSI(mask, dtype=dtype, **options)

    @property
    def kind(self) -> str:
        noise = "" if self.noise == "none" else f"_{self.noise}"
        return f"{'random_mask' if self.mask_file is None else 'mask'}_{self.bands}x{self.step}{noise}"

    @property
    def heading(self) -> str:
        mask = "random mask" if self.mask_file is None else f"mask {self.mask_file.parent.name}/{self.mask_file.name}"
        noise = "no noise" if self.noise == "none" else f"{self.noise} noise"
        return f"{self.bands} bands, dispersion {self.step} pixels, {mask}, {noise}"

    @property
    def published_as(self) -> float | str:
        return "sim" if self.noise == "none" else self.noise

    @property
    def channels(self) -> int | None:
        return self.bands

    @property
    def files(self) -> tuple[Path, ...]:
        return () if self.mask_file is None else (self.mask_file,)

    @classmethod
    def example(cls) -> Example:
        return Example(cls(bands=4, mask_side=64), (4,), (cls(mask_side=8), 28))


def random_mask(height: int, width: int, seed: int) -> Tensor:
    """A mask of open (1) and closed (0) squares of a pixel, half of them open on average; float64."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 2, (height, width)).astype(float))
