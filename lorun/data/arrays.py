"""Arrays in MATLAB files (versions 5 to 7) and NumPy files, from the path or from content that was read before."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from lorun.errors import LorunError


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
        raise LorunError(f"{what} is not an array of real numbers")
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

    Raises LorunError where the file cannot be read or has no such variable.
    """
    is_mat = path.suffix.lower() == ".mat"
    source = path if data is None else BytesIO(data)
    try:
        if not is_mat:
            return np.load(source, allow_pickle=False), f"{path}: the array"
        variable, values = _variable(path, source, variables, or_single_cube)
        return values, f"{path}: variable `{variable}`"
    except LorunError:
        raise
    except NotImplementedError:
        raise LorunError(f"{path} is a MATLAB file of version 7.3; save it again as version 7 (`save -v7`)") from None
    except Exception as error:  # scipy and numpy raise almost anything on damaged files, even zlib.error, SyntaxError
        kind, reason = "MATLAB" if is_mat else ".npy", " ".join(str(error).split())
        raise LorunError(f"{path} cannot be read as a {kind} file ({reason})") from error


def _variable(path: Path, source: Any, accepted: Sequence[str], or_single_cube: bool) -> tuple[str, Any]:
    from scipy.io import loadmat, whosmat

    shapes = {name: shape for name, shape, _ in whosmat(source)}
    names = [name for name in accepted if name in shapes]
    cubes = [name for name, shape in shapes.items() if len(shape) == 3]
    if or_single_cube and len(cubes) == 1:
        names += cubes
    if not names:
        wanted = " or ".join(f"`{name}`" for name in accepted)
        wanted += ", nor a single one of three dimensions" * or_single_cube
        found = ", ".join(f"`{name}`" for name in shapes) or "nothing"
        raise LorunError(f"{path}: holds no variable {wanted}, but {found}")
    return names[0], loadmat(source, variable_names=names[:1])[names[0]]
