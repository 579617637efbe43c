"""Datasets that their user must obtain: check that the files are the right ones, copy them, record their checksums."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from lorun.data.arrays import flaw, mat_variables, named, read_mat
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
from lorun.data.progress import shown
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
    copies = shown(files, f"{name}: copying")
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
    for look, paths in ((header, files), (content, shown(files, f"{name}: checking"))):
        found = [f"{path.name}: {wrong}" for path in paths if (wrong := _told(look, path, expected)) is not None]
        if found:
            return found
    return []


def _told(look: Callable[[Path, Expectation], str | None], path: Path, expected: Expectation) -> str | None:
    try:
        return look(path, expected)
    except LorunError as error:
        return str(error).removeprefix(f"{path} ")


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
    variables = mat_variables(path)
    name = _chosen(variables, expected)
    if name is None:
        wanted = f" {' or '.join(f'`{name}`' for name in expected.variable)}" if expected.variable else ""
        return f"holds no variable{wanted}, but {named(variables)}"
    shape, kind = variables[name]
    if kind not in _NUMBERS:
        return f"variable `{name}` is not an array of real numbers"
    if expected.shape is not None and shape != tuple(expected.shape):
        return f"variable `{name}` has shape {shape}, expected {tuple(expected.shape)}"
    return None


def _wrong_values(path: Path, expected: Expectation) -> str | None:
    name = str(_chosen(mat_variables(path), expected))
    values = read_mat(path, name)
    what = f"variable `{name}`"
    wrong = flaw(values)
    if wrong is not None:
        return f"{what} {wrong}"
    low, high = float(values.min()), float(values.max())
    if (expected.low is not None and low < expected.low) or (expected.high is not None and high > expected.high):
        return f"{what} has values from {low:g} to {high:g}, expected {_range(expected.low, expected.high)}"
    return None


def _chosen(variables: Iterable[str], expected: Expectation) -> str | None:
    names = list(variables)
    return next((name for name in expected.variable or names if name in names), None)


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
