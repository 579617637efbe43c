"""Matrices and kernels of operators, read from .npy and MATLAB files."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lorun.errors import LorunError


def read_array(path: Path, key: str, what: str) -> np.ndarray:
    """The array in a `.npy` file, or the variable `key` of a MATLAB `.mat` file.

    Args:
        path: of the file.
        key: name of the variable.
        what: content of the array, for error messages.

    Raises:
        LorunError: the file is missing, unreadable or lacks the variable.
    """
    try:
        if path.suffix != ".mat":
            return np.asarray(np.load(path, allow_pickle=False))
        from scipy.io import loadmat

        held = loadmat(path)
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        raise LorunError(f"{path}: cannot be read as {what}: {error}") from error
    if key not in held:
        names = ", ".join(sorted(name for name in held if not name.startswith("__"))) or "nothing"
        raise LorunError(f"{path}: holds no {what.removeprefix('a ')} named `{key}`, but {names}")
    return np.asarray(held[key])


def read_matrix(
    path: Path, key: str = "phi", *, shape: tuple[int, int] | None = None, transmission: bool = False
) -> Tensor:
    """A matrix from a `.npy` file, or the variable `key` of a MATLAB `.mat` file; float64.

    Raises:
        LorunError: the file is missing, unreadable or lacks the variable; it holds no finite matrix, or one of another
            shape; a transmission has values below zero, or none above.
    """
    matrix = read_array(path, key, "a matrix")
    if not (matrix.ndim == 2 and matrix.dtype.kind in "fiub"):
        raise LorunError(f"{path}: `{key}` is not a matrix of real numbers")
    if not np.isfinite(matrix).all():
        raise LorunError(f"{path}: `{key}` has values that are not finite")
    if transmission and (matrix.min() < 0 or matrix.max() <= 0):
        low, high = float(matrix.min()), float(matrix.max())
        raise LorunError(f"{path}: `{key}` has values from {low:g} to {high:g}: a transmission is not negative")
    if shape is not None and matrix.shape != shape:
        raise LorunError(f"{path}: `{key}` has shape {matrix.shape}, the setting needs {shape}")
    return torch.from_numpy(np.ascontiguousarray(matrix, dtype=np.float64))
