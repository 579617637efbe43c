"""Reading what operators are made from: arrays in .npy and MATLAB files."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lorun.errors import LorunError


def read_array(path: Path, key: str, what: str) -> np.ndarray:
    """The array in a `.npy` file, or the variable `key` of a MATLAB `.mat` file; `what` it holds, for people.

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


def read_matrix(path: Path, key: str = "phi", *, transmission: bool = False) -> Tensor:
    """A matrix from a `.npy` file, or the variable `key` of a MATLAB `.mat` file; float64.

    Raises:
        LorunError: the file is missing, unreadable, lacks the variable, or holds something else than a finite matrix;
            of a transmission, values below zero, or nothing above.
    """
    matrix = read_array(path, key, "a matrix")
    if not (matrix.ndim == 2 and matrix.dtype.kind in "fiub"):
        raise LorunError(f"{path}: `{key}` is not a matrix of real numbers")
    if not np.isfinite(matrix).all():
        raise LorunError(f"{path}: `{key}` has values that are not finite")
    if transmission and (matrix.min() < 0 or matrix.max() <= 0):
        low, high = float(matrix.min()), float(matrix.max())
        raise LorunError(f"{path}: `{key}` has values from {low:g} to {high:g}: light cannot be less than none")
    return torch.from_numpy(np.ascontiguousarray(matrix, dtype=np.float64))
