"""Datasets that their user must obtain: check that the files are the right ones, copy them, record their checksums."""

import shutil
import sys
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from lorun.data.checksums import (
    directory_md5,
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
    _refuse(name, _problems(files, manual.expected))
    if (root / f"{name}.md5").exists() and not replace:
        _refuse(name, _other_than_recorded(root, name, files))
    replace_folder(root / name, lambda part: [shutil.copyfile(path, part / path.name) for path in files])
    if replace or not (root / f"{name}.md5").exists():
        write_manifest(root, name)
    if find_damage(root, name):
        raise LorunError(f"{root / name} came out other than {source}: the disk or the folder changed meanwhile; again")
    return directory_md5(root / name)


def _select(name: str, source: Path, expected: Expectation) -> list[Path]:
    """The files that the dataset consists of; others in the folder (notes, thumbnails) do not matter."""
    pattern = expected.pattern.lower()
    files = sorted(path for path in source.iterdir() if path.is_file() and fnmatchcase(path.name.lower(), pattern))
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


def _problems(files: list[Path], expected: Expectation) -> Iterator[str]:
    """What is wrong with each file, in a line; a file at a time is in memory."""
    look = _wrong_image if expected.kind == "images" else _wrong_mat
    for number, path in enumerate(files, start=1):
        if number % max(1, len(files) // 10) == 0:
            print(f"checked {number} of {len(files)} files", file=sys.stderr, flush=True)
        problem = look(path, expected)
        if problem is not None:
            yield f"{path.name}: {problem}"


def _wrong_image(path: Path, expected: Expectation) -> str | None:
    try:
        pixels = read_image(path, 3)
    except LorunError as error:
        return str(error)
    if expected.channels == 3 and (pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all():
        return "is gray, expected RGB"
    if expected.channels == 1 and not ((pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all()):
        return "is in colour, expected gray"
    if expected.min_side is not None and min(pixels.shape[1:]) < expected.min_side:
        return f"is {pixels.shape[1]} x {pixels.shape[2]}, expected at least {expected.min_side} pixels a side"
    return None


def _wrong_mat(path: Path, expected: Expectation) -> str | None:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        held = loadmat(path)
    except NotImplementedError:
        return "is a MATLAB file of version 7.3; save it again as version 7 (`save -v7`)"
    except (MatReadError, OSError, ValueError, TypeError, KeyError, IndexError) as error:
        return f"cannot be read as a MATLAB file ({error})"
    names = [variable for variable in held if not variable.startswith("__")]
    accepted = [variable for variable in expected.variable or names if variable in held]
    if not accepted:
        wanted = " or ".join(f"`{variable}`" for variable in expected.variable or ())
        return f"holds no variable {wanted}, but {', '.join(f'`{name}`' for name in names) or 'nothing'}"
    cube = held[accepted[0]]
    what = f"variable `{accepted[0]}`"
    if not isinstance(cube, np.ndarray) or cube.dtype.kind not in "fiu":
        return f"{what} is not an array of real numbers"
    if expected.shape is not None and cube.shape != tuple(expected.shape):
        return f"{what} has shape {cube.shape}, expected {tuple(expected.shape)}"
    bad = int((~np.isfinite(cube)).sum())
    if bad:
        return f"{what} has {bad} values that are not finite"
    low, high = float(cube.min()), float(cube.max())
    if (expected.low is not None and low < expected.low) or (expected.high is not None and high > expected.high):
        return f"{what} has values from {low:g} to {high:g}, expected {expected.low:g} to {expected.high:g}"
    return None


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
