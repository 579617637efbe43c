"""Arrays in MATLAB and NumPy files: read them, and say in one line what is wrong with them."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from lorun.data.checksums import read_bytes
from lorun.errors import LorunError


def read_mat(
    path: Path, accepted: Sequence[str], data: bytes | None = None, *, or_single_cube: bool = False
) -> tuple[str, np.ndarray]:
    """Name and value of the first accepted variable that a MATLAB file (version 5 to 7) has, in its stored type.

    Args:
        data: the content of the file, if already read.
        or_single_cube: take the only variable of three dimensions if there is no accepted one.

    Raises:
        LorunError: the file cannot be read, or has no such variable, or that is no array of finite real numbers.
    """
    from scipy.io import loadmat, whosmat

    shapes = {name: shape for name, shape, _ in _read_mat(whosmat, path, data)}
    names = [name for name in accepted if name in shapes]
    solid = [name for name, shape in shapes.items() if len(shape) == 3]
    if or_single_cube and len(solid) == 1:
        names += solid
    if not names:
        wanted = (
            " or ".join(f"`{name}`" for name in accepted) + ", nor a single one of three dimensions" * or_single_cube
        )
        found = ", ".join(f"`{name}`" for name in shapes) or "nothing"
        raise LorunError(f"{path}: holds no variable {wanted}, but {found}")
    values = _read_mat(loadmat, path, data, variable_names=names[:1])[names[0]]
    return names[0], _checked(values, f"{path}: variable `{names[0]}`")


def read_npy(path: Path, data: bytes | None = None) -> np.ndarray:
    """The array of a .npy file. Raises LorunError when it cannot be read, or is no array of finite real numbers."""
    content = read_bytes(path) if data is None else data
    try:
        values = np.load(BytesIO(content), allow_pickle=False)
    except Exception as error:  # numpy raises almost anything on damaged headers, even SyntaxError
        raise LorunError(f"{path} cannot be read as a .npy file ({_one_line(error)})") from error
    return _checked(values, f"{path}: the array")


def _checked(values: Any, what: str) -> np.ndarray:
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise LorunError(f"{what} is not an array of real numbers")
    if values.size == 0:
        raise LorunError(f"{what} is empty")
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise LorunError(f"{what} has {bad} values that are not finite")
    return values


def _read_mat(read: Callable[..., Any], path: Path, data: bytes | None, **options: Any) -> Any:
    try:
        return read(path if data is None else BytesIO(data), **options)
    except NotImplementedError:
        raise LorunError(f"{path} is a MATLAB file of version 7.3; save it again as version 7 (`save -v7`)") from None
    except Exception as error:  # scipy raises almost anything on damaged files, even zlib.error
        raise LorunError(f"{path} cannot be read as a MATLAB file ({_one_line(error)})") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
