"""Super-resolution and deblurring with known kernels: circular blur, decimation, noise.

The degradation y = (k * x) decimated by s + n that USRNet unfolds (Zhang, Van Gool and Timofte, "Deep Unfolding Network
for Image Super-Resolution", CVPR 2020), and its data step in closed form (Zhao, Wei, Basarab, Dobigeon, Kouame and
Tourneret, "Fast Single Image Super-Resolution Using a New Analytical Solution for l2-l2 Problems", IEEE TIP 2016).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from lorun import seeds
from lorun.errors import LorunError, UnknownName
from lorun.physics._kernels import bicubic_kernel, cubic, drawn_kernel, gaussian_kernel, read_kernels
from lorun.physics._tikhonov import folded, tikhonov
from lorun.physics.base import Example, Operator, OperatorConfig

Training = Literal["drawn", "same"]
Quantisation = Literal["float", "usrnet_uint8"]
Initial = Literal["tikhonov", "smooth", "bicubic", "nearest", "adjoint"]
Gradient = Literal["regularised", "plain"]


class BlurDownsample(Operator):
    """Circular convolution with a kernel, then the top-left pixel of every `scale` x `scale` cell, then Gaussian noise.

    x: (B, C, H, W), any size. y: (B, C, ceil(H / scale), ceil(W / scale)). Channels are measured one by one.

    The origin of a kernel is its element (height // 2, width // 2); a kernel larger than the image wraps around.
    Everything is computed by FFT, in the precision of x, but for the measurement of 8-bit images (`quantisation`).

    It measures with its first kernel; `under` chooses one by name.

    Args:
        kernels: (h, w) each, of sizes that may differ.
        degradations: names of the kernels; by default 1, 2, ..., or none for a single kernel.
        quantisation: "usrnet_uint8" measures as USRNet's script does (`truncated_blur`). It is not linear: y is half a
            grey level too dark on average.
        gradient: a "plain" step is stable up to size 2, since a kernel of positive values that sums to 1 amplifies no
            frequency.
        others: as the fields of `BlurDownsampleConfig`.

    Raises:
        LorunError: there is no kernel, one is no matrix, the names are not as many, or the scale is below 1.
    """

    def __init__(
        self,
        kernels: Sequence[Tensor],
        *,
        degradations: Sequence[str] | None = None,
        scale: int = 1,
        noise: float = 0.0,
        quantisation: Quantisation = "float",
        training: Training = "drawn",
        training_scales: Sequence[int] = (),
        initial: Initial = "tikhonov",
        gradient: Gradient = "regularised",
        epsilon: float = 1e-2,
        noise_seed: int = 0,
        modcrop: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(max_iter=200, tol=1e-7)  # conjugate gradients, for sizes without a closed form
        if not kernels or scale < 1:
            raise LorunError(f"{len(kernels)} kernels and a scale of {scale}: at least one of each is needed")
        for kernel in kernels:
            if kernel.ndim != 2 or kernel.numel() == 0:
                raise LorunError(f"a kernel has shape {tuple(kernel.shape)}; it needs rows and columns")
        self.scale = self.decimation = scale
        self.noise = noise
        self.quantisation: Quantisation = quantisation
        self.training_kernels: Training = training
        self.training_scales = tuple(training_scales) or (scale,)
        self.initial: Initial = initial
        self.gradient: Gradient = gradient
        self.epsilon = epsilon
        self.noise_seed = noise_seed
        self.kernels = len(kernels)
        numbers = () if self.kernels == 1 else tuple(str(number) for number in range(1, self.kernels + 1))
        self.degradations = tuple(degradations or numbers)
        if self.degradations and len(self.degradations) != self.kernels:
            raise LorunError(
                f"{self.kernels} kernels with {len(self.degradations)} names: {', '.join(self.degradations)}"
            )
        self.chosen = 0
        self.multiple = 1 if modcrop is None else math.lcm(scale, modcrop)
        self.smallest = self.multiple
        self.drawn: Tensor | None = None
        for number, kernel in enumerate(kernels):
            self.register_buffer(f"kernel_{number}", kernel.to(dtype).clone())

    @property
    def kernel(self) -> Tensor:
        """The kernel in use."""
        if self.drawn is not None:
            return self.drawn
        kernel: Tensor = getattr(self, f"kernel_{self.chosen}")
        return kernel

    def under(self, degradation: str) -> Self:
        """This operator with the kernel of that name."""
        if degradation not in self.degradations:
            raise UnknownName("kernel", degradation, self.degradations)
        return self.bound(chosen=self.degradations.index(degradation))

    def scored_size(self, height: int, width: int) -> tuple[int, int]:
        return height - height % self.multiple, width - width % self.multiple

    def for_training(self, size: tuple[int, int], random: np.random.Generator) -> Self:
        for scale in self.training_scales:
            if any(side % scale for side in size):
                raise LorunError(
                    f"a patch of {size[0]} x {size[1]} is no multiple of the scale {scale}: change `training.patch`"
                )
        seed = int(random.integers(2**63))
        if self.training_kernels == "same":
            chosen = int(random.integers(self.kernels))
            return self.bound(size=size, chosen=chosen, noise_seed=seed)
        several = len(self.training_scales) > 1
        scale = int(random.choice(self.training_scales)) if several else self.training_scales[0]
        like = self.kernel
        drawn = drawn_kernel(scale, random).to(like.device, like.dtype)
        return self.bound(size=size, scale=scale, decimation=scale, drawn=drawn, noise_seed=seed)

    def scene_of(self, height: int, width: int) -> tuple[int, int]:
        return self.size or (height * self.scale, width * self.scale)

    def transfer(self, height: int, width: int) -> Tensor:
        """The kernel's discrete Fourier transform on a grid of that size: (height, width // 2 + 1)."""
        kernel = self.kernel
        rows, columns = kernel.shape
        grid = kernel.new_zeros(height * width)
        row = (torch.arange(rows, device=kernel.device) - rows // 2) % height
        column = (torch.arange(columns, device=kernel.device) - columns // 2) % width
        grid = grid.index_add(0, (row[:, None] * width + column).flatten(), kernel.flatten())
        return torch.fft.rfft2(grid.view(height, width))

    def blur(self, x: Tensor) -> Tensor:
        """k * x, circular."""
        size = self.size_of(x)
        return torch.fft.irfft2(torch.fft.rfft2(x) * self.transfer(*size), s=size)

    def size_of(self, x: Tensor) -> tuple[int, int]:
        """Height and width of an image. Raises LorunError if the operator is bound to another size."""
        size = (x.shape[2], x.shape[3])
        if self.size is not None and size != self.size:
            raise LorunError(f"the operator is bound to {self.size} images, this one is {size}")
        return size

    def A(self, x: Tensor, **_: object) -> Tensor:
        return self.blur(x)[..., :: self.scale, :: self.scale].contiguous()

    def A_adjoint(self, y: Tensor, **_: object) -> Tensor:
        size = self.scene_of(*y.shape[2:])
        x = self.spread(y, size)
        return torch.fft.irfft2(torch.fft.rfft2(x) * self.transfer(*size).conj(), s=size)

    def spread(self, y: Tensor, size: tuple[int, int]) -> Tensor:
        """y on the top-left pixels of the cells of an image of that size, zero elsewhere."""
        x = y.new_zeros(*y.shape[:2], *size)
        x[..., :: self.scale, :: self.scale] = y
        return x

    def forward(self, x: Tensor, **_: object) -> Tensor:
        """Measure x, with noise if there is any."""
        if self.quantisation == "usrnet_uint8":
            self.size_of(x)
            y = truncated_blur(x, self.kernel, self.scale)
        else:
            y = self.A(x)
        if self.noise:
            generator = torch.Generator(y.device).manual_seed(self.noise_seed)
            noise = torch.randn(y.shape, generator=generator, device=y.device, dtype=y.dtype)
            y = y + self.noise / 255 * noise
        return y

    def solve(self, residual: Tensor, epsilon: float | Tensor) -> Tensor:
        """(A A^T + epsilon)^-1 r, for images whose sides are multiples of the scale.

        A A^T is then a circular convolution: its transform is the mean of |transfer|^2 over the frequencies that alias
        in decimation.
        """
        rows, columns = residual.shape[2:]
        full = self.transfer(rows * self.scale, columns * self.scale)
        power = folded(full.real**2 + full.imag**2, self.scale, rows, columns)
        spectrum = torch.fft.rfft2(residual) / (power + epsilon)
        return torch.fft.irfft2(spectrum, s=(rows, columns))

    def noise_level(self, y: Tensor) -> Tensor:
        return y.new_full((len(y), 1, 1, 1), self.noise / 255)

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **options: Any) -> Tensor:
        """See `Operator.prox_l2`; in closed form where the sides of the image are multiples of the scale, else by
        conjugate gradients."""
        if z.shape[2] % self.scale or z.shape[3] % self.scale:
            return super().prox_l2(z, y, gamma, **options)
        # From the residual: for a large gamma, float32 loses the digits of z in z + gamma A^T y.
        return z + self.A_adjoint(self.solve(y - self.A(z), 1 / gamma))

    def initial_reconstruction(self, y: Tensor) -> Tensor:
        if self.initial == "adjoint":
            return self.A_adjoint(y)
        if self.initial == "tikhonov":
            return self.regularised(y)
        if self.initial == "smooth":
            return tikhonov(y, self)
        return enlarged(y, self.scale, self.initial, self.scene_of(*y.shape[2:]))

    def back_project(self, residual: Tensor) -> Tensor:
        return self.A_adjoint(residual) if self.gradient == "plain" else self.regularised(residual)

    def regularised(self, y: Tensor) -> Tensor:
        """A^T (A A^T + epsilon)^-1 y, the x of least epsilon |x|^2 + |A x - y|^2."""
        size = self.scene_of(*y.shape[2:])
        if size[0] % self.scale or size[1] % self.scale:
            nothing = y.new_zeros(*y.shape[:2], *size)
            return self.prox_l2(nothing, y, 1 / self.epsilon)
        return self.A_adjoint(self.solve(y, self.epsilon))


class BlurDownsampleConfig(OperatorConfig):
    """Super-resolution and deblurring with known kernels."""

    name: Literal["blur_downsample"] = "blur_downsample"
    scale: int = Field(ge=1, le=8, description="decimation; 1 is deblurring")
    kernels: Literal["gaussian", "bicubic", "drawn", "file"] = Field(
        "gaussian", description="origin of the kernels; drawn: at random, as training draws its own"
    )
    width: float = Field(1.6, gt=0, description="standard deviation of the Gaussian kernel, pixels")
    kernels_file: Path | None = Field(
        None, description="kernels, .mat with the cell array `kernels` or .npy (N, h, w), with kernels: file"
    )
    scored: list[Annotated[int, Field(ge=1)]] = Field(
        default_factory=list,
        description="numbers, from 1, of the kernels that test images are scored with, with kernels: file or drawn",
    )
    noise: float = Field(0.0, ge=0, le=255, description="standard deviation, grey levels of 255")
    quantisation: Quantisation = Field(
        "float", description="usrnet_uint8 truncates the blurred image to whole grey levels, as USRNet's script does"
    )
    training: Training = Field(
        "drawn", description="kernels of training steps: drawn at random, or one of those that are scored"
    )
    training_scales: list[Annotated[int, Field(ge=1, le=8)]] = Field(
        default_factory=list,
        description="scales of training steps, one drawn for each, with training: drawn; default: that of the setting",
    )
    initial: Initial = Field(
        "tikhonov",
        description="initial reconstruction x_0: tikhonov, A^T (A A^T + epsilon)^-1 y, penalises pixels; smooth, the "
        "baseline `tikhonov`, penalises the differences of neighbours; y enlarged; or adjoint, A^T y",
    )
    gradient: Gradient = Field(
        "regularised",
        description="direction of a gradient step: A^T (A A^T + epsilon)^-1 r, or A^T r, with r = A x - y",
    )
    epsilon: float = Field(1e-2, gt=0, description="of both; the largest eigenvalue of A A^T is at most 1")
    noise_seed: int = Field(0, ge=0, description="seed of the noise in every test image")
    modcrop: int | None = Field(
        8,
        ge=1,
        description="test images are cropped at the right and bottom to a multiple of the scale and of this, pixels; "
        "null: not at all",
    )

    task: ClassVar[str] = "sr"

    @model_validator(mode="after")
    def _kernels_fit_together(self) -> Self:
        if (self.kernels == "file") != (self.kernels_file is not None):
            raise ValueError("`kernels: file` and `kernels_file` belong together: give both or neither")
        if (self.kernels in ("file", "drawn")) != bool(self.scored):
            raise ValueError("`scored` numbers the kernels of `kernels: file` and `kernels: drawn`: give it with these")
        if self.training_scales and self.training != "drawn":
            raise ValueError("`training_scales` go with `training: drawn`: scored kernels are of one scale")
        if len(set(self.scored)) < len(self.scored):
            raise ValueError(f"`scored` (={self.scored}) names a kernel twice")
        return self

    def build(self, dtype: torch.dtype = torch.float32) -> BlurDownsample:
        options = self.model_dump(exclude={"name", "kernels", "kernels_file", "scored", "width"})
        return BlurDownsample(self._kernels(), degradations=self.degradations, dtype=dtype, **options)

    def _kernels(self) -> list[Tensor]:
        if self.kernels_file is not None:
            kernels = read_kernels(self.kernels_file)
            last = max(self.scored)
            if last > len(kernels):
                raise LorunError(f"{self.kernels_file}: has {len(kernels)} kernels, `scored` names number {last}")
            return [kernels[number - 1] for number in self.scored]
        if self.kernels == "drawn":
            return [drawn_kernel(self.scale, seeds.generator(number, seeds.KERNELS)) for number in self.scored]
        if self.kernels == "bicubic":
            return [bicubic_kernel(self.scale)]
        return [gaussian_kernel(2 * math.ceil(4 * self.width) + 1, (self.width, self.width), 0.0)]

    @property
    def kind(self) -> str:
        kernels = self.kernels if self.kernels_file is None else self.kernels_file.stem
        return f"{kernels}_x{self.scale}_noise{self.noise:g}" + ("" if self.quantisation == "float" else "_uint8")

    @property
    def heading(self) -> str:
        numbers = ", ".join(self.degradations)
        if self.kernels_file is not None:
            kernels = f"kernels {numbers} of {self.kernels_file.parent.name}/{self.kernels_file.name}"
        elif self.kernels == "drawn":
            kernels = f"kernels {numbers} drawn at random"
        elif self.kernels == "bicubic":
            kernels = "bicubic kernel"
        else:
            kernels = f"Gaussian kernel of width {self.width:g}"
        return f"scale {self.scale}, {kernels}, noise {self.noise:g}/255, quantisation {self.quantisation}"

    @property
    def training_heading(self) -> str | None:
        if self.training != "drawn":
            return None
        scales = self.training_scales or [self.scale]
        return f"kernels drawn at random, scale {' or '.join(str(scale) for scale in scales)}"

    @property
    def published_as(self) -> float | str:
        return f"x{self.scale}_sigma{self.noise:g}"

    @property
    def files(self) -> tuple[Path, ...]:
        return () if self.kernels_file is None else (self.kernels_file,)

    @property
    def degradations(self) -> tuple[str, ...]:
        return tuple(map(str, self.scored))

    @classmethod
    def example(cls) -> Example:
        config = cls(scale=2, kernels="drawn", scored=[1], noise=2.55)
        return Example(config, (3, 1), (config, 3))


def truncated_blur(x: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """The 8-bit image that USRNet's script measures: the blurred image, truncated to whole grey levels and decimated.

    The script, `main_test_table1.py` of github.com/cszn/USRNet, convolves bytes by `scipy.ndimage.convolve`, which sums
    in float64 and returns bytes. Where the image is flat, sums are a rounding error away from a whole grey level: a
    kernel that sums to 1 - 2e-9 darkens them by a level. So the sum is scipy's, tap by tap in its order, each product
    rounded; that of an FFT, or of a convolution of torch, would differ.

    Args:
        x: (B, C, H, W) in [0, 1]; rounded to bytes first.
        kernel: (h, w), in any precision: those of `kernels_12.mat` are stored in single.

    Returns:
        (B, C, ceil(H / scale), ceil(W / scale)) in [0, 1], in the precision of x.
    """
    (height, width), (rows, columns) = x.shape[2:], kernel.shape
    row = torch.arange(-((rows - 1) // 2), height + rows // 2, device=x.device) % height
    column = torch.arange(-((columns - 1) // 2), width + columns // 2, device=x.device) % width
    wrapped = (x.double() * 255).round()[..., row, :][..., column]
    taps = kernel.double().flip(0, 1)
    total = x.new_zeros((), dtype=torch.float64)
    for i in range(rows):
        for j in range(columns):
            total = total + taps[i, j] * wrapped[..., i : i + height : scale, j : j + width : scale]
    return (total.floor().clamp(0, 255) / 255).to(x.dtype)


def enlarged(y: Tensor, scale: int, kind: Literal["bicubic", "nearest"], size: tuple[int, int]) -> Tensor:
    """y enlarged `scale` times to `size`, its pixels at the top left of their cells; bicubic repeats the borders."""
    height, width = size
    if kind == "nearest":
        return y.repeat_interleave(scale, 2).repeat_interleave(scale, 3)[..., :height, :width]
    for axis, length in ((2, height), (3, width)):
        y = _cubic(y.movedim(axis, -1), scale, length).movedim(-1, axis)
    return y


def _cubic(y: Tensor, scale: int, length: int) -> Tensor:
    """Cubic convolution along the last axis."""
    at = torch.arange(length, device=y.device)
    left, part = at // scale, (at % scale).to(y.dtype) / scale
    total = torch.zeros_like(y[..., :1]).expand(*y.shape[:-1], length)
    for offset in (-1, 0, 1, 2):
        total = total + cubic((part - offset).abs()) * y[..., (left + offset).clamp(0, y.shape[-1] - 1)]
    return total
