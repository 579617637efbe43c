"""Matrices of operators, read from .npy and MATLAB files."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lorun.data.arrays import read_array
from lorun.errors import LorunError


def read_matrix(
    path: Path, key: str = "phi", *, shape: tuple[int, int] | None = None, transmission: bool = False
) -> Tensor:
    """A matrix from a `.npy` file, or the variable `key` of a MATLAB `.mat` file; float64.

    Raises:
        LorunError: the file is missing, unreadable or lacks the variable; it holds no finite matrix, or one of another
            shape; a transmission has values below zero, or none above.
    """
    matrix, what = read_array(path, variables=[key], kinds="fiub")
    if matrix.ndim != 2 or (shape is not None and matrix.shape != shape):
        wanted = "a matrix is needed" if shape is None else f"the setting needs {shape}"
        raise LorunError(f"{what} has shape {matrix.shape}, {wanted}")
    if transmission and (matrix.min() < 0 or matrix.max() <= 0):
        low, high = float(matrix.min()), float(matrix.max())
        raise LorunError(f"{what} has values from {low:g} to {high:g}: a transmission is not negative")
    return torch.from_numpy(np.ascontiguousarray(matrix, dtype=np.float64))
