"""Arrays in MATLAB and NumPy files: found by name, read, and told what is wrong with them."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from lorun.data.checksums import read_bytes
from lorun.errors import LorunError

Variables = dict[str, tuple[tuple[int, ...], str]]
"""Shape and MATLAB class of variables, by name."""


def mat_variables(path: Path, data: bytes | None = None) -> Variables:
    """The variables of a MATLAB file (version 5 to 7), from their headers; `data` is its content where it is known.

    Raises:
        LorunError: the file cannot be read, or is of version 7.3.
    """
    from scipy.io import whosmat

    held = _read_mat(whosmat, path, data)
    return {name: (tuple(shape), kind) for name, shape, kind in held if not name.startswith("__")}


def read_mat(path: Path, name: str, data: bytes | None = None) -> Any:
    """The variable `name` of a MATLAB file, in the type that it is stored as: of whole doubles that may be an integer.

    Raises:
        LorunError: as `mat_variables` does.
    """
    from scipy.io import loadmat

    return _read_mat(loadmat, path, data, variable_names=[name])[name]


def read_npy(path: Path, data: bytes | None = None) -> np.ndarray:
    """The array of a .npy file. Raises LorunError when it cannot be read, or holds Python objects."""
    try:
        return np.load(BytesIO(read_bytes(path) if data is None else data), allow_pickle=False)
    except LorunError:
        raise
    except Exception as error:  # numpy raises almost anything on damaged headers, SyntaxError among it
        raise LorunError(f"{path} cannot be read as a .npy file ({_one_line(error)})") from error


def named(variables: Variables) -> str:
    """For people: `a`, `b`."""
    return ", ".join(f"`{name}`" for name in variables) or "nothing"


def flaw(values: Any) -> str | None:
    """Why something read is no array of finite real numbers, or None where it is one."""
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        return "is not an array of real numbers"
    if values.size == 0:
        return "is empty"
    bad = values.size - int(np.isfinite(values).sum())
    return f"has {bad} values that are not finite" if bad else None


def _read_mat(read: Callable[..., Any], path: Path, data: bytes | None, **options: Any) -> Any:
    try:
        return read(path if data is None else BytesIO(data), **options)
    except NotImplementedError:
        raise LorunError(f"{path} is a MATLAB file of version 7.3; save it again as version 7 (`save -v7`)") from None
    except Exception as error:  # scipy raises almost anything on damaged files, zlib.error among it
        raise LorunError(f"{path} cannot be read as a MATLAB file ({_one_line(error)})") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
