"""Blur kernels: read from files, computed, or drawn at random for training."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorun.data.arrays import read_variable
from lorun.errors import LorunError

_SINGLE = 1e-6  # a sum of single-precision values may be so far from 1


def read_kernels(path: Path, key: str = "kernels") -> list[Tensor]:
    """The kernels in variable `key` of a MATLAB file, a cell array or h x w x N, or in a .npy file, (N, h, w); float64.

    One kernel alone may have two dimensions. A kernel that sums to 1 in single precision is kept as stored, any other
    is divided by its sum.

    Raises:
        LorunError: the file is missing, unreadable or lacks the variable; a stack has other dimensions, or its kernels
            are square only if it is cut the other way; a kernel is no finite matrix with a positive sum.
    """
    held, what = read_variable(path, variables=[key])
    is_cell = isinstance(held, np.ndarray) and held.dtype.kind == "O"
    kernels = held.ravel() if is_cell else _cut(held, what, matlab=path.suffix.lower() == ".mat")
    return [_kernel(path, number, cell) for number, cell in enumerate(kernels, start=1)]


def _cut(stack: Any, what: str, matlab: bool) -> np.ndarray:
    """A single kernel or a stack of them as (N, h, w). MATLAB has the number last, and NumPy first."""
    shape = np.shape(stack)
    if not isinstance(stack, np.ndarray) or len(shape) not in (2, 3) or not stack.size:
        raise LorunError(f"{what} has shape {shape}, expected one kernel or a stack of them")
    if len(shape) == 2:
        return stack[None]
    first, last = shape[1] == shape[2], shape[0] == shape[1]  # are kernels square if the number is first, or last?
    if (first and not last) if matlab else (last and not first):
        layout = "height x width x number" if matlab else "number x height x width"
        raise LorunError(f"{what} has shape {shape}: a stack of kernels in this format is {layout}")
    return stack.transpose(2, 0, 1) if matlab else stack


def _kernel(path: Path, number: int, cell: Any) -> Tensor:
    cell = np.asarray(cell)  # a sparse matrix becomes an object
    if cell.ndim != 2 or cell.dtype.kind not in "fiub" or not np.isfinite(cell).all():
        raise LorunError(f"{path}: kernel {number} is not a matrix of finite real numbers (shape {cell.shape})")
    kernel = np.ascontiguousarray(cell, dtype=np.float64)
    if not 0 < kernel.sum() < math.inf:
        raise LorunError(f"{path}: kernel {number} sums to {kernel.sum():g}, expected a positive sum")
    whole = abs(kernel.sum() - 1) < _SINGLE
    return torch.from_numpy(kernel if whole else kernel / kernel.sum())


def gaussian_kernel(side: int, widths: tuple[float, float], angle: float) -> Tensor:
    """A Gaussian with standard deviations `widths` (pixels) along axes turned by `angle` (radians); sums to 1."""
    at = torch.arange(side, dtype=torch.float64) - side // 2
    rows, columns = torch.meshgrid(at, at, indexing="ij")
    along = math.cos(angle) * columns + math.sin(angle) * rows
    across = math.cos(angle) * rows - math.sin(angle) * columns
    kernel = torch.exp(-0.5 * ((along / widths[0]) ** 2 + (across / widths[1]) ** 2))
    return kernel / kernel.sum()


def motion_kernel(side: int, random: np.random.Generator) -> Tensor:
    """The trace of camera shake: a random walk with inertia, a pixel wide, centred; sums to 1.

    After Boracchi and Foi, "Modeling the performance of image restoration from motion blur" (IEEE TIP 2012),
    simplified: the velocity is an autoregressive process and there are no sudden jumps.
    """
    steps = 16 * side
    velocity = np.zeros(2)
    places = np.zeros((steps, 2))
    for step in range(1, steps):
        velocity = 0.97 * velocity + random.normal(0, 1, 2)
        places[step] = places[step - 1] + velocity
    places -= places.mean(axis=0)
    length = random.uniform(0.3, 1.0) * (side // 2 - 1)
    places *= length / max(np.abs(places).max(), 1e-12)
    kernel = np.zeros((side, side))
    at = places + side // 2
    low = np.floor(at).astype(int)
    part = at - low
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):  # each point falls on four pixels
        weights = np.abs(1 - row - part[:, 0]) * np.abs(1 - column - part[:, 1])
        np.add.at(kernel, (low[:, 0] + row, low[:, 1] + column), weights)
    return torch.from_numpy(kernel / kernel.sum())


def cubic(distance: Tensor) -> Tensor:
    """Weights of cubic convolution with a = -0.5 (Keys, 1981) at these distances, pixels; zero from 2 on."""
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))


def bicubic_kernel(scale: int) -> Tensor:
    """The kernel whose blur, decimated at top-left pixels, is MATLAB's antialiased bicubic reduction inside the image.

    Cubic convolution, `scale` times as wide, around the middle of a scale x scale cell,
    which for even scales is no pixel. Borders wrap around, where MATLAB mirrors.
    """
    reach = 2 * scale + scale // 2
    at = torch.arange(-reach, reach + 1, dtype=torch.float64)
    distance = (at - (scale - 1) / 2).abs() / scale
    taps = cubic(distance)
    taps = (taps / taps.sum()).flip(0)  # a convolution: the tap of offset d stands at -d
    return torch.outer(taps, taps)


def drawn_kernel(scale: int, random: np.random.Generator, side: int = 25) -> Tensor:
    """A random kernel for training, as USRNet trains: isotropic Gaussian, anisotropic Gaussian or motion, a third each.

    Standard deviations are uniform from 0.3 to 0.6 + 0.6 * scale pixels, angles uniform.
    """
    kind = int(random.integers(3))
    if kind == 2:
        return motion_kernel(side, random)
    most = 0.6 + 0.6 * scale
    first, second = (float(random.uniform(0.3, most)) for _ in range(2))
    return gaussian_kernel(side, (first, first if kind == 0 else second), float(random.uniform(0, math.pi)))
