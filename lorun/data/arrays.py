"""Arrays in MATLAB files (versions 4 to 7) and NumPy files, from the path or from content that was read before."""

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from lorun.data import matlab
from lorun.data.content import read_bytes, refuse_no_data
from lorun.errors import LorunError, one_line

_FIRST_BYTES = {
    b"\x93NUMPY": "an array of NumPy",
    b"PK": "a .npz or zip archive",
    b"MATLAB": "MATLAB",
    b"\x89HDF": "HDF5",
    b"\x80": "a pickle",
    b"\x89PNG": "an image",
    b"\xff\xd8": "an image",
}
_DEFLATE = 1100  # times that zlib can shrink a file, at most
_OBJECTS = "objects (a cell array, or a structure)"
_KINDS = {"O": _OBJECTS, "V": _OBJECTS, "c": "complex numbers", "U": "text", "S": "text", "b": "bits"}


def read_array(
    path: Path,
    data: bytes | None = None,
    variables: Sequence[str] = (),
    *,
    or_single_cube: bool = False,
    kinds: str = "fiu",
) -> tuple[np.ndarray, str]:
    """The array in a .mat or .npy file in its stored type, and its name for messages; see `read_variable`.

    Raises LorunError, also where the array is empty, has values that are not finite, or another kind than `kinds`, by
    default real numbers.
    """
    values, what = read_variable(path, data, variables, or_single_cube=or_single_cube)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in kinds:
        found = _KINDS.get(values.dtype.kind, values.dtype) if isinstance(values, np.ndarray) else _name(values)
        raise LorunError(f"{what} is not an array of real numbers, but holds {found}")
    if values.size == 0:
        raise LorunError(f"{what} is empty")
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise LorunError(f"{what} has {bad} values that are not finite")
    return values, what


def read_variable(
    path: Path, data: bytes | None = None, variables: Sequence[str] = (), *, or_single_cube: bool = False
) -> tuple[Any, str]:
    """What a .npy file or a variable of a .mat file holds, and its name for messages.

    Args:
        data: the content of the file, if already read.
        variables: accepted names of the variable in a .mat file; the first that is there is read.
        or_single_cube: otherwise accept the only variable of three dimensions.

    Raises LorunError where the file cannot be read, or has no such variable.
    """
    is_mat = path.suffix.lower() == ".mat"
    content = read_bytes(path) if data is None else data
    _refuse_others(path, content[:200], is_mat)
    try:
        if not is_mat:
            return np.load(BytesIO(content), allow_pickle=False), f"{path}: the array"
        variable, values = _variable(path, content, variables, or_single_cube)
        return values, f"{path}: variable `{variable}`"
    except LorunError:
        raise
    except Exception as error:  # damaged files raise almost anything, even zlib.error, SyntaxError
        kind, reason = "MATLAB" if is_mat else ".npy", one_line(error)[:200] or type(error).__name__
        if "allow_pickle" in reason:
            raise LorunError(f"{path} holds Python objects: save an array of numbers (`numpy.save`)") from error
        raise LorunError(f"{path} cannot be read as a {kind} file ({reason}): get an intact copy") from error


def _refuse_others(path: Path, start: bytes, is_mat: bool) -> None:
    """Raise LorunError where these first bytes are those of another kind of file."""
    refuse_no_data(path, start)
    kind = next((kind for first, kind in _FIRST_BYTES.items() if start.startswith(first)), "something else")
    if is_mat and (kind == "HDF5" or start.startswith(b"MATLAB 7.3")):
        raise LorunError(f"{path} is a MATLAB file of version 7.3; save it again as version 7 (`save -v7`)")
    if not is_mat and kind != "an array of NumPy":
        raise LorunError(f"{path} is no .npy file, but {kind}: arrays are read from .npy and .mat files")
    if is_mat and kind not in ("MATLAB", "something else"):  # version 4 begins with numbers
        raise LorunError(f"{path} is no MATLAB file, but {kind}")


def _name(values: Any) -> str:
    return "a sparse matrix (use `full`)" if hasattr(values, "toarray") else f"a {type(values).__name__}"


def _variable(path: Path, content: bytes, accepted: Sequence[str], or_single_cube: bool) -> tuple[str, Any]:
    from scipy.io import loadmat, whosmat

    matlab.check(content)
    shapes = {name: shape for name, shape, _ in whosmat(BytesIO(content))}
    names = [name for name in accepted if name in shapes]
    cubes = [name for name, shape in shapes.items() if len(shape) == 3]
    if or_single_cube and len(cubes) == 1:
        names += cubes
    if not names:
        wanted = " or ".join(f"`{name}`" for name in accepted)
        wanted += ", nor a single one of three dimensions" * or_single_cube
        held = ", ".join(f"`{name}`" if name.isprintable() else ascii(name) for name in shapes)[:200] or "nothing"
        raise LorunError(f"{path}: holds no variable {wanted}, but {held}")
    matlab.check(content, names[0])
    if math.prod(shapes[names[0]]) > _DEFLATE * len(content):  # version 4, whose reader trusts sizes too
        raise LorunError(f"{path} is damaged: it cannot hold {shapes[names[0]]} values in `{names[0]}`")
    return names[0], loadmat(BytesIO(content), variable_names=names[:1])[names[0]]
