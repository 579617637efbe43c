"""Datasets that users obtain themselves: check that the files are the right ones, copy them, record their checksums."""

import shutil
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from lorun.data.checksums import (
    dataset_identity,
    find_damage,
    known_datasets,
    md5_of_bytes,
    read_bytes,
    read_manifest,
    write_manifest,
)
from lorun.data.cubes import read_cube
from lorun.data.images import read_image
from lorun.data.progress import track
from lorun.data.registry import Dataset, Expectation, read_registry
from lorun.errors import LorunError, UnknownName
from lorun.files import replace_folder

_GRAY_MODES = {"1", "L", "LA"}  # of Pillow


def add(root: Path, name: str, source: Path, *, replace: bool = False) -> str:
    """Check the files of a dataset in the folder `source`, copy them to `root`/<name>, and write their manifest.

    If there is a manifest already, the files must agree with it, unless `replace`. `source` is not changed.
    Returns the identity of the dataset (see `lorun.data.checksums.dataset_identity`).

    Raises:
        UnknownName: no such dataset.
        LorunError: the dataset is fetched, not added; files are missing, too many, or wrong. The message names the
            first one, what is wrong with it, and how many other problems there are.
    """
    registry = read_registry(root)
    if name not in registry:
        by_hand = [known for known, entry in registry.items() if entry.manual is not None]
        raise UnknownName("dataset to add", name, by_hand or known_datasets(root))
    entry = registry[name]
    if entry.manual is None:
        raise LorunError(f"dataset {name!r} need not be added: `lorun data fetch {name}`")
    if not source.is_dir():
        raise LorunError(f"no folder {source}: name the one that holds {name} ({entry.manual.how})")
    if (root / name).resolve() in (source.resolve(), *source.resolve().parents):
        raise LorunError(f"{source} is the destination of the dataset: name the folder that you obtained")
    files = _select(name, source, entry.manual.expected)
    _refuse(name, _problems(track(files, f"{name}: checking"), entry, entry.manual.expected))
    recorded = (root / f"{name}.md5").exists() and not replace
    if recorded:
        _refuse(name, _differences(root, name, files))
    copies = track(files, f"{name}: copying")
    replace_folder(root / name, lambda part: [shutil.copyfile(path, part / path.name) for path in copies])
    if not recorded:
        write_manifest(root, name)
    elif find_damage(root, name):
        raise LorunError(f"{root / name} differs from {source}: the disk or the folder changed meanwhile; try again")
    return dataset_identity(root, name)


def _select(name: str, source: Path, expected: Expectation) -> list[Path]:
    """The files of the dataset; other files in the folder (notes, thumbnails) are ignored."""
    pattern = expected.pattern.lower()
    visible = (path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))  # macOS: ._a.bmp
    files = sorted(path for path in visible if fnmatchcase(path.name.lower(), pattern))
    if expected.names is not None:
        missing = sorted(set(expected.names) - {path.name for path in files})
        if missing:
            raise LorunError(f"{name}: {source} lacks {missing[0]}{_others(missing, 'files')}")
        files = [path for path in files if path.name in expected.names]
    if len(files) != expected.count:
        raise LorunError(f"{name}: expected {expected.count} files {expected.pattern} in {source}, found {len(files)}")
    return files


def _refuse(name: str, problems: Iterable[str]) -> None:
    found = list(problems)
    if found:
        raise LorunError(f"{name}: {found[0]}{_others(found, 'problems')}")


def _others(found: list[str], what: str) -> str:
    return f" (and {len(found) - 1} more {what})" if len(found) > 1 else ""


def _problems(paths: Iterable[Path], entry: Dataset, expected: Expectation) -> Iterator[str]:
    """One line for each file that is not an image or cube of the dataset."""
    for path in paths:
        try:
            if entry.cubes is None:
                _check_image(path, expected)
            else:
                _, *size = read_cube(path, entry.cubes).shape
                if expected.size not in (None, size):
                    raise LorunError(f"has the size {size}, expected {expected.size}")
        except LorunError as error:
            yield f"{path.name}: {str(error).removeprefix(str(path)).lstrip(': ')}"


def _check_image(path: Path, expected: Expectation) -> None:
    from PIL import Image

    r, g, b = read_image(path, 3)
    with Image.open(path) as image:
        if expected.channels == 3 and image.mode in _GRAY_MODES:
            raise LorunError("is gray, expected RGB")
    if expected.channels == 1 and not ((r == g).all() and (r == b).all()):
        raise LorunError("is in colour, expected gray")


def _differences(root: Path, name: str, files: list[Path]) -> Iterator[str]:
    """One line for each file that differs from the manifest."""
    recorded = read_manifest(root, name)
    advice = f"{root / name}.md5; use --replace to record your files instead"
    for path in files:
        if path.name not in recorded:
            yield f"{path.name} is not in {advice}"
        elif md5_of_bytes(read_bytes(path)) != recorded[path.name]:
            yield f"{path.name} has another checksum than in {advice}"
    missing = set(recorded) - {path.name for path in files}
    if missing:
        yield f"{min(missing)} is missing, but is in {advice}"
