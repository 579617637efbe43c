"""Tikhonov's estimate of a blurred and decimated image, in closed form.

It minimises |A x - y|^2 + lambda (|D x|^2 + delta |x|^2), D being the differences of neighbouring pixels: Zhao, Wei,
Basarab, Dobigeon, Kouame and Tourneret, "Fast Single Image Super-Resolution Using a New Analytical Solution for l2-l2
Problems", IEEE TIP 2016. Without decimation it is the Wiener filter for images with white differences.
"""

import math
from typing import TYPE_CHECKING

import torch
from deepinv.optim.linear import conjugate_gradient
from torch import Tensor

if TYPE_CHECKING:
    from lorun.physics.blur_downsample import BlurDownsample

DIFFERENCE = 30.0
"""Root mean square of an image's differences, grey levels of 255: lambda is the variance of a measurement's error over
its square. Chosen on validation images, for every scale and noise, by `workflow/tune_options.py`."""

FLAT = 1e-4
"""delta: small, so that the mean of the image is hardly penalised, and positive, so that the solution is unique."""

ITERATIONS = 1000  # of conjugate gradients, at most
TOLERANCE = 1e-6

_LEAST_ERROR = 0.1
"""Standard deviation of a measurement's error that is assumed where there is no noise, grey levels."""


def error_variance(physics: "BlurDownsample") -> float:
    """Variance of the error of a pixel of y, for values in [0, 1]: noise, and rounding to grey levels (1/12)."""
    rounding = 1 / 12 if physics.quantisation == "usrnet_uint8" else 0.0
    return max(physics.noise**2 + rounding, _LEAST_ERROR**2) / 255**2


@torch.no_grad()
def tikhonov(y: Tensor, physics: "BlurDownsample", difference: float = DIFFERENCE) -> Tensor:
    """C A^T (A C A^T + lambda)^-1 y with C = (D^T D + delta)^-1, diagonal in the Fourier domain.

    (A C A^T + lambda)^-1 is a filter too where the sides of the image are multiples of the scale; elsewhere conjugate
    gradients apply it.

    Args:
        y: measurements, (B, C, H, W).
        difference: see `DIFFERENCE`.
    """
    with torch.autocast(y.device.type, enabled=False):
        height, width = physics.scene_of(*y.shape[2:])
        strength = error_variance(physics) / (difference / 255) ** 2
        spread = 1 / (squared_differences(height, width, y) + FLAT)  # the spectrum of C
        if height % physics.scale or width % physics.scale:
            unexplained = conjugate_gradient(
                lambda r: physics.A(filtered(physics.A_adjoint(r), spread)) + strength * r,
                y.double(),  # C gives the mean 8e4 times the weight of the finest pattern
                max_iter=ITERATIONS,
                tol=TOLERANCE,
                eps=1e-30,
            ).to(y.dtype)
        else:
            transfer = physics.transfer(height, width)
            power = folded((transfer.real**2 + transfer.imag**2) * spread, physics.scale, *y.shape[2:])
            unexplained = filtered(y, 1 / (power + strength))
        return filtered(physics.A_adjoint(unexplained), spread)


def squared_differences(height: int, width: int, like: Tensor) -> Tensor:
    """The transform of D^T D, circular, for images of that size: (height, width // 2 + 1)."""
    rows, columns = (
        2 - 2 * torch.cos(2 * math.pi / side * torch.arange(count, dtype=like.dtype, device=like.device))
        for side, count in ((height, height), (width, width // 2 + 1))
    )
    return rows[:, None] + columns


def filtered(x: Tensor, response: Tensor) -> Tensor:
    """(B, C, H, W) -> same; `response` is that of a real and even filter, (H, W // 2 + 1)."""
    return torch.fft.irfft2(torch.fft.rfft2(x) * response, s=(x.shape[2], x.shape[3]))


def folded(power: Tensor, scale: int, rows: int, columns: int) -> Tensor:
    """The mean of a real image's power over the frequencies that alias in decimation.

    From the transform's half of an image of rows * scale x columns * scale pixels to that of one of rows x columns:
    (H, W // 2 + 1) -> (rows, columns // 2 + 1).
    """
    cells = _whole(power, columns * scale).view(scale, rows, scale, columns)
    return cells.mean((0, 2))[:, : columns // 2 + 1]


def _whole(half: Tensor, columns: int) -> Tensor:
    """The power spectrum of a real image from its first half of columns: (H, W // 2 + 1) -> (H, W)."""
    rest = half[:, 1 : (columns + 1) // 2].flip(1)  # of column W - k at row -h
    return torch.cat([half, torch.roll(rest.flip(0), 1, 0)], dim=1)
