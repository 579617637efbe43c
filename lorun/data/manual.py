"""Datasets that their user must obtain: check that the files are the right ones, copy them, record their checksums."""

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from lorun.data.checksums import (
    dataset_identity,
    find_damage,
    known_datasets,
    md5_of_bytes,
    read_bytes,
    read_manifest,
    write_manifest,
)
from lorun.data.images import read_image
from lorun.data.registry import Expectation, read_registry
from lorun.errors import LorunError, UnknownName
from lorun.files import replace_folder

_GRAY_MODES = {"1", "L", "LA"}  # of Pillow
_NUMBERS = {"double", "single"} | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}  # of MATLAB


def add(root: Path, name: str, source: Path, *, replace: bool = False) -> str:
    """Check the files of a dataset in the folder `source`, copy them to `root`/<name>, and write their manifest.

    The first who adds a dataset records its checksums; who adds it later must have the same files, unless `replace`.
    Returns the identity of the dataset (see `lorun.data.checksums.directory_md5`); `source` stays as it is.

    Raises:
        UnknownName: no such dataset.
        LorunError: the dataset is fetched, not added; files are missing, too many, or not what they should be; the
            first one is named, with what is wrong and how many others are.
    """
    registry = read_registry(root)
    if name not in registry:
        by_hand = [known for known, entry in registry.items() if entry.manual is not None]
        raise UnknownName("dataset to add", name, by_hand or known_datasets(root))
    manual = registry[name].manual
    if manual is None:
        raise LorunError(f"dataset {name!r} need not be added: `lorun data fetch {name}`")
    if not source.is_dir():
        raise LorunError(f"no folder {source}: name the one that holds {name} ({manual.how})")
    if (root / name).resolve() in (source.resolve(), *source.resolve().parents):
        raise LorunError(f"{source} is where the dataset goes: name the folder that you obtained")
    files = _select(name, source, manual.expected)
    _refuse(name, _problems(name, files, manual.expected))
    recorded = (root / f"{name}.md5").exists() and not replace
    if recorded:
        _refuse(name, _other_than_recorded(root, name, files))
    copies = _shown(files, f"{name}: copying")
    replace_folder(root / name, lambda part: [shutil.copyfile(path, part / path.name) for path in copies])
    if not recorded:
        write_manifest(root, name)
    elif find_damage(root, name):
        raise LorunError(f"{root / name} came out other than {source}: the disk or the folder changed meanwhile; again")
    return dataset_identity(root, name)


def _select(name: str, source: Path, expected: Expectation) -> list[Path]:
    """The files that the dataset consists of; others in the folder (notes, thumbnails) do not matter."""
    pattern = expected.pattern.lower()
    visible = (path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))  # macOS: ._a.bmp
    files = sorted(path for path in visible if fnmatchcase(path.name.lower(), pattern))
    wanted = set(expected.names or ())
    missing = sorted(wanted - {path.name for path in files})
    if missing:
        raise LorunError(f"{name}: {source} lacks {missing[0]}{_others(len(missing) - 1, 'files')}")
    if wanted:
        files = [path for path in files if path.name in wanted]
    if len(files) != expected.count:
        raise LorunError(f"{name}: expected {expected.count} files {expected.pattern} in {source}, found {len(files)}")
    return files


def _refuse(name: str, problems: Iterable[str]) -> None:
    found = list(problems)
    if found:
        raise LorunError(f"{name}: {found[0]}{_others(len(found) - 1, 'problems')}")


def _others(count: int, what: str) -> str:
    return f" (and {count} more {what})" if count else ""


def _problems(name: str, files: list[Path], expected: Expectation) -> list[str]:
    """What is wrong with each file, in a line; by the headers of all, where they are right by the content of each."""
    header, content = _wrong_image, _wrong_pixels
    if expected.kind == "mat":
        header, content = _wrong_variable, _wrong_values
    for look, paths in ((header, files), (content, _shown(files, f"{name}: checking"))):
        found = [f"{path.name}: {wrong}" for path in paths if (wrong := _told(look, path, expected)) is not None]
        if found:
            return found
    return []


def _told(look: Callable[[Path, Expectation], str | None], path: Path, expected: Expectation) -> str | None:
    try:
        return look(path, expected)
    except LorunError as error:
        return str(error).removeprefix(f"{path} ")


def _shown(files: list[Path], what: str) -> Iterator[Path]:
    """The files one by one, with a bar on a terminal, else a line per tenth of them."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        yield from track(files, what, console=Console(stderr=True))
        return
    for number, path in enumerate(files, start=1):
        yield path
        if 10 * number // len(files) > 10 * (number - 1) // len(files):
            print(f"{what}: {number} of {len(files)} files", file=sys.stderr, flush=True)


def _wrong_image(path: Path, expected: Expectation) -> str | None:
    from PIL import Image

    try:
        with Image.open(path) as image:
            mode, (width, height) = image.mode, image.size
    except Exception:  # Pillow raises almost anything on damaged files; `read_image` tells what it is
        return _wrong_pixels(path, expected)
    if expected.channels == 3 and mode in _GRAY_MODES:
        return "is gray, expected RGB"
    if expected.min_side is not None and min(width, height) < expected.min_side:
        return f"is {height} x {width}, expected at least {expected.min_side} pixels a side"
    return None


def _wrong_pixels(path: Path, expected: Expectation) -> str | None:
    r, g, b = read_image(path, 3)
    if expected.channels == 1 and not ((r == g).all() and (r == b).all()):
        return "is in colour, expected gray"
    return None


def _wrong_variable(path: Path, expected: Expectation) -> str | None:
    variables = _variables(path)
    name = _chosen(variables, expected)
    if name is None:
        wanted = f" {' or '.join(f'`{name}`' for name in expected.variable)}" if expected.variable else ""
        return f"holds no variable{wanted}, but {', '.join(f'`{name}`' for name in variables) or 'nothing'}"
    shape, kind = variables[name]
    if kind not in _NUMBERS:
        return f"variable `{name}` is not an array of real numbers"
    if expected.shape is not None and shape != tuple(expected.shape):
        return f"variable `{name}` has shape {shape}, expected {tuple(expected.shape)}"
    return None


def _wrong_values(path: Path, expected: Expectation) -> str | None:
    from scipy.io import loadmat

    name = _chosen(_variables(path), expected)
    values = _read_mat(loadmat, path, variable_names=[name])[name]
    what = f"variable `{name}`"
    if values.dtype.kind not in "fiu":
        return f"{what} is not an array of real numbers"
    if values.size == 0:
        return f"{what} is empty"
    bad = int((~np.isfinite(values)).sum())
    if bad:
        return f"{what} has {bad} values that are not finite"
    low, high = float(values.min()), float(values.max())
    if (expected.low is not None and low < expected.low) or (expected.high is not None and high > expected.high):
        return f"{what} has values from {low:g} to {high:g}, expected {_range(expected.low, expected.high)}"
    return None


def _variables(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and class of the variables in a MATLAB file, by name; reads their headers only."""
    from scipy.io import whosmat

    held = _read_mat(whosmat, path)
    return {name: (tuple(shape), kind) for name, shape, kind in held if not name.startswith("__")}


def _chosen(variables: Iterable[str], expected: Expectation) -> str | None:
    names = list(variables)
    return next((name for name in expected.variable or names if name in names), None)


def _read_mat(read: Callable[..., Any], path: Path, **options: Any) -> Any:
    try:
        return read(path, **options)
    except NotImplementedError:
        raise LorunError("is a MATLAB file of version 7.3; save it again as version 7 (`save -v7`)") from None
    except Exception as error:  # scipy raises almost anything on damaged files, zlib.error among it
        raise LorunError(f"cannot be read as a MATLAB file ({' '.join(str(error).split())})") from error


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"


def _other_than_recorded(root: Path, name: str, files: list[Path]) -> Iterator[str]:
    recorded = read_manifest(root, name)
    advice = f"than the copy that {root / name}.md5 records; use --replace to record yours instead"
    for path in files:
        if path.name not in recorded:
            yield f"{path.name} is in another copy {advice}"
        elif md5_of_bytes(read_bytes(path)) != recorded[path.name]:
            yield f"{path.name} is another file {advice}"
    missing = set(recorded) - {path.name for path in files}
    if missing:
        yield f"{min(missing)} is missing: this is another copy {advice}"
