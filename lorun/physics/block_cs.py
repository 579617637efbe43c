"""Compressed sensing of an image block by block: y = Phi x for each of its non-overlapping blocks.

The block-based model of Gan, "Block compressed sensing of natural images" (DSP 2007), as used by ISTA-Net (blocks of 33
pixels), FSOINet and CASNet (32). Their conventions differ; each is an option here.
"""

import math
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from lorun.errors import LorunError
from lorun.physics._matrices import read_matrix
from lorun.physics.base import Example, Operator, OperatorConfig, Patches

Count = Literal["floor", "ceil", "ista_net"]
Padding = Literal["needed", "always"]
Initial = Literal["lmmse", "adjoint", "pseudo_inverse", "given"]


class BlockCS(Operator):
    """Non-overlapping square blocks, each measured with the same matrix Phi; channels are measured one by one.

    x: (B, C, H, W), any size; padded with zeros right and below to whole blocks.
    y: (B, C*m, H', W') with H' x W' blocks; channel c of the image gives the measurements c*m to (c+1)*m - 1.

    Bound with `at`, the adjoint crops to that size; unbound, it returns whole blocks. `padding="always"` adds a whole
    block to a size that already is a multiple (as the ISTA-Net family does) and needs a bound operator.

    Args:
        matrix: Phi, (m, n) with n a square number; a pixel's place in its block is row-major.
        learned: Phi is a trainable parameter instead of a buffer.
        initialiser: the matrix (n, m) of the "given" initial reconstruction.
        others: as the fields of `BlockCSConfig`.

    Raises:
        LorunError: the matrix is not m x n with m <= n and n a square number, or the initialiser not n x m.
    """

    def __init__(
        self,
        matrix: Tensor,
        *,
        learned: bool = False,
        padding: Padding = "needed",
        initial: Initial = "lmmse",
        initialiser: Tensor | None = None,
        initial_blocks: int = 20_000,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        m, n = matrix.shape
        if math.isqrt(n) ** 2 != n or not 1 <= m <= n:
            raise LorunError(f"Phi has shape {m} x {n}; it needs as many columns as a block has pixels, and m <= n")
        self.block = self.smallest = math.isqrt(n)
        self.learned = learned
        self.padding: Padding = padding
        self.initial: Initial = initial
        self.initial_blocks = initial_blocks
        if (initial == "given") != (initialiser is not None):
            raise LorunError("`initial: given` and an initialiser belong together: give both or neither")
        if initialiser is not None and initialiser.shape != (n, m):
            raise LorunError(f"the initialiser has shape {tuple(initialiser.shape)}, Phi needs {(n, m)}")
        self._hold_matrix(matrix.to(dtype).clone())
        if initialiser is not None:
            initialiser = initialiser.to(dtype).clone()
        elif initial == "lmmse" and not learned:
            initialiser = torch.zeros(n, m, dtype=dtype)  # set by `fit`
        self.register_buffer("initialiser", initialiser)
        moment = torch.zeros(n, n, dtype=dtype) if initial == "lmmse" and learned else None
        self.register_buffer("second_moment", moment)  # of training blocks, set by `fit`; the initialiser follows Phi

    def _hold_matrix(self, matrix: Tensor) -> None:
        if self.learned:
            self.phi = nn.Parameter(matrix)
        else:
            self.register_buffer("phi", matrix)

    @property
    def m(self) -> int:
        """Measurements per block."""
        return self.phi.shape[0]

    def for_training(self, size: tuple[int, int], random: np.random.Generator) -> Self:
        """For patches of whole blocks, without the extra block of `padding="always"`."""
        return self.bound(size=size, padding="needed")

    def whole_blocks(self) -> Self:
        """This operator for images of whole blocks: for networks that work on padded images and crop their estimate to
        `size` at the end."""
        return self.bound(size=None, padding="needed")

    def A(self, x: Tensor, **_: object) -> Tensor:
        channels, height, width = x.shape[1:]
        if self.size is None and self.padding == "always":
            raise LorunError("padding 'always' needs the image size: use physics.at(height, width)")
        if self.size is not None and (height, width) != self.size:
            raise LorunError(f"the operator is bound to {self.size} images, this one is {(height, width)}")
        x = F.pad(x, (0, self._margin(width), 0, self._margin(height)))
        blocks = F.pixel_unshuffle(x, self.block)  # (B, C*n, H', W')
        return _per_channel(blocks, self.phi, channels)  # (B, C*m, H', W')

    def A_adjoint(self, y: Tensor, **_: object) -> Tensor:
        return self._to_image(y, self.phi.mT)

    def A_dagger(self, y: Tensor, **options: object) -> Tensor:
        if self.size is not None and (self._margin(self.size[0]) or self._margin(self.size[1])):
            return super().A_dagger(y, **options)  # cropped blocks: no closed form
        return self._to_image(y, self._pseudo_inverse())

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **options: Any) -> Tensor:
        """See `Operator.prox_l2`; in closed form where images are whole blocks, else by conjugate gradients."""
        if self._margin(z.shape[2]) or self._margin(z.shape[3]):
            return super().prox_l2(z, y, gamma, **options)
        gains, directions = torch.linalg.eigh(self.phi @ self.phi.mT)  # of A A^T, in each block
        channels = z.shape[1]
        unexplained = _per_channel(y - self.A(z), directions.mT, channels)
        solved = unexplained / (gains.repeat(channels)[:, None, None] + 1 / gamma)
        return z + self.A_adjoint(_per_channel(solved, directions, channels))

    def initial_reconstruction(self, y: Tensor) -> Tensor:
        """x_0, linear in y and block by block: (B, C*m, H', W') -> (B, C, H, W).

        "lmmse" is R Phi^T (Phi R Phi^T)^-1 y with R the second moment of training blocks, the Q_init of
        ISTA-Net (Zhang and Ghanem, CVPR 2018); for a learned Phi it follows Phi, and gradients flow.
        """
        return self._to_image(y, self._initialiser())

    @torch.no_grad()
    def fit(self, patches: Patches) -> None:
        """Fit "lmmse" on `initial_blocks` training blocks; does nothing for the other initial reconstructions.

        Raises:
            LorunError: there are no blocks.
        """
        if self.initial != "lmmse":
            return
        n = self.phi.shape[1]
        moment = torch.zeros(n, n, dtype=torch.float64)
        count = 0
        for chunk in patches(self.block, self.initial_blocks):
            chunk = chunk.to(torch.float64)
            moment += chunk.mT @ chunk
            count += len(chunk)
        if count == 0:
            raise LorunError("there are no training blocks to fit the initial reconstruction on")
        moment /= count
        if self.learned:
            self.second_moment.copy_(moment)
        else:
            self.initialiser.copy_(_lmmse(self.phi.double().cpu(), moment))

    def _initialiser(self) -> Tensor:
        if self.initial == "adjoint":
            return self.phi.mT
        if self.initial == "pseudo_inverse":
            return self._pseudo_inverse()
        if self.initial == "lmmse" and self.learned:
            return _lmmse(self.phi, self.second_moment)
        return self.initialiser

    def _pseudo_inverse(self) -> Tensor:
        return torch.linalg.solve(self.phi @ self.phi.mT, self.phi).mT

    def _margin(self, side: int) -> int:
        missing = -side % self.block
        return self.block if missing == 0 and self.padding == "always" else missing

    def _to_image(self, y: Tensor, matrix: Tensor) -> Tensor:
        blocks = _per_channel(y, matrix, y.shape[1] // self.m)  # (B, C*n, H', W')
        x = F.pixel_shuffle(blocks, self.block)
        return x if self.size is None else x[..., : self.size[0], : self.size[1]]


class _StraightSign(torch.autograd.Function):
    """sign, with sign(0) = 1, whose gradient is that of the identity."""

    @staticmethod
    def forward(ctx: Any, latent: Tensor) -> Tensor:
        return torch.where(latent >= 0, torch.ones_like(latent), -torch.ones_like(latent))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class BinaryBlockCS(BlockCS):
    """Phi = scale * sign(latent), both learned; the gradient passes the sign unchanged.

    The sampling of OPINE-Net (Zhang, Zhao and Gao, IEEE JSTSP 2020, section III.A). `matrix` is the initial latent.
    """

    def _hold_matrix(self, matrix: Tensor) -> None:
        self.latent = nn.Parameter(matrix)
        # sign(latent) has rows of norm sqrt(n); this makes them of norm 1, as an orthonormal Phi has.
        self.scale = nn.Parameter(torch.full((1,), matrix.shape[1] ** -0.5, dtype=matrix.dtype))

    @property
    def phi(self) -> Tensor:  # type: ignore[override]
        return self.scale * _StraightSign.apply(self.latent)


class BlockCSConfig(OperatorConfig):
    """Block-wise compressed sensing with one matrix Phi for all blocks."""

    name: Literal["block_cs"] = "block_cs"
    ratio: float = Field(gt=0, le=100, description="measurements per pixel, percent")
    block: int = Field(32, ge=2, le=256, description="side of a block, pixels; the field uses 32 or 33")
    count: Count = Field("floor", description="how ratio * block**2 / 100 becomes the integer m")
    padding: Padding = Field(
        "needed", description="pad right and below where needed, or always (a whole block on a multiple)"
    )
    matrix: Literal["gaussian", "learned", "learned_binary", "file"] = Field("gaussian", description="origin of Phi")
    matrix_seed: int = Field(0, ge=0, description="seed of the orthonormal Gaussian Phi, where learning starts too")
    matrix_file: Path | None = Field(
        None, description="m x block**2 matrix, .npy or .mat with the variable `phi`, with matrix: file"
    )
    initial: Initial = Field("lmmse", description="initial reconstruction x_0")
    initial_blocks: int = Field(20_000, ge=1, description="training blocks that lmmse is fitted on")
    initial_file: Path | None = Field(
        None, description="block**2 x m matrix, .npy or .mat with the variable `Qinit`, with initial: given"
    )

    task: ClassVar[str] = "cs"

    @model_validator(mode="after")
    def _files_go_with_their_options(self) -> Self:
        if (self.matrix == "file") != (self.matrix_file is not None):
            raise ValueError("`matrix: file` and `matrix_file` belong together: give both or neither")
        if (self.initial == "given") != (self.initial_file is not None):
            raise ValueError("`initial: given` and `initial_file` belong together: give both or neither")
        return self

    def build(self, dtype: torch.dtype = torch.float32) -> BlockCS:
        pixels = self.block**2
        m = measurement_count(self.ratio, pixels, self.count)
        if self.matrix_file is None:
            matrix = gaussian_matrix(m, pixels, self.matrix_seed)
        else:
            matrix = read_matrix(self.matrix_file, "phi", shape=(m, pixels))
        initialiser = None
        if self.initial_file is not None:
            initialiser = read_matrix(self.initial_file, "Qinit", shape=(pixels, m))
        operator = BinaryBlockCS if self.matrix == "learned_binary" else BlockCS
        return operator(
            matrix,
            learned=self.learned,
            padding=self.padding,
            initial=self.initial,
            initialiser=initialiser,
            initial_blocks=self.initial_blocks,
            dtype=dtype,
        )

    @property
    def kind(self) -> str:
        return f"{self.matrix if self.learned else 'fixed_gaussian'}_{self.block}"

    @property
    def heading(self) -> str:
        return f"ratio {self.ratio:g} %, Phi {self.kind}"

    @property
    def published_as(self) -> float | str:
        return self.ratio

    @property
    def learned(self) -> bool:
        return self.matrix.startswith("learned")

    @property
    def fitted(self) -> bool:
        return self.initial == "lmmse"

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.matrix_file, self.initial_file) if path is not None)

    @classmethod
    def example(cls) -> Example:
        config = cls(ratio=25, block=8)
        return Example(config, (1, 3), (config, 1))


def _per_channel(blocks: Tensor, matrix: Tensor, channels: int) -> Tensor:
    """Multiply each block of each channel by `matrix`: (B, C*p, H', W') -> (B, C*q, H', W')."""
    batch, _, rows, columns = blocks.shape
    vectors = blocks.reshape(batch * channels, -1, rows, columns)
    # Not a 1x1 convolution, which is slow for small batches on one thread of a CPU.
    return F.linear(vectors.movedim(1, -1), matrix).movedim(-1, 1).reshape(batch, -1, rows, columns)


def _lmmse(phi: Tensor, moment: Tensor) -> Tensor:
    cross = moment @ phi.mT  # (n, m)
    gram = phi @ cross  # (m, m)
    # Assumed noise of variance 1e-3 grey levels squared keeps this solvable when there are few blocks.
    gram = gram + (1e-3 / 255**2) * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve(gram, cross.mT).mT


def measurement_count(ratio: float, pixels: int, rule: str = "floor") -> int:
    """m for a block of `pixels` pixels at `ratio` percent.

    "floor" is FSOINet's rule, "ceil" CASNet's; "ista_net" gives 10, 43, 109, 272, 327, 436, 545 at
    1, 4, 10, 25, 30, 40, 50 % of 1089: rounded, except below 5 %, where it is truncated.

    Raises:
        LorunError: the count is 0, or above the number of pixels.
    """
    exact = round(ratio * pixels / 100, 9)  # 9 digits: 10 % of 1090 is 109, not 109.00000000000001
    if rule == "ista_net":
        rule = "floor" if ratio < 5 else "round"
    m = {"floor": math.floor, "ceil": math.ceil, "round": lambda value: math.floor(value + 0.5)}[rule](exact)
    if not 1 <= m <= pixels:
        raise LorunError(f"ratio {ratio:g} % of {pixels} pixels gives {m} measurements; 1 to {pixels} are possible")
    return m


def gaussian_matrix(m: int, pixels: int, seed: int) -> Tensor:
    """An m x pixels matrix with orthonormal rows, uniformly distributed (Gaussian, then orthonormalised), float64."""
    gaussian = torch.from_numpy(np.random.default_rng(seed).standard_normal((pixels, m)))
    q, r = torch.linalg.qr(gaussian)
    return (q * r.diagonal().sign()).mT.contiguous()  # the signs make the factorisation unique
