"""Datasets that users obtain themselves: check that the files are the right ones, copy them, record their checksums."""

from collections.abc import Iterator
from pathlib import Path

from lorun.data.checksums import known_datasets, md5_of_bytes, read_manifest, verify_dataset, write_manifest
from lorun.data.content import read_bytes
from lorun.data.cubes import read_cube
from lorun.data.images import read_image
from lorun.data.listing import files_in
from lorun.data.progress import track
from lorun.data.registry import Dataset, Expectation, read_registry
from lorun.errors import LorunError, UnknownName
from lorun.files import replace_files


def add(root: Path, name: str, source: Path) -> str:
    """Check the files of a dataset in the folder `source`, copy them to `root`/<name>, and write their manifest.

    If there is a manifest already, the files must agree with it. `source` is not changed.
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
    _refuse(name, list(_problems(files, name, entry, entry.manual.expected)))
    manifest = root / f"{name}.md5"
    recorded = manifest.exists()
    if recorded:
        md5s = {path.name: md5_of_bytes(read_bytes(path)) for path in files}
        different = sorted({file for file, _ in md5s.items() ^ read_manifest(root, name).items()})
        advice = "delete that file to record yours instead"
        _refuse(name, [f"{file} differs from {manifest}; {advice}" for file in different])
    replace_files(root / name, ((path.name, read_bytes(path)) for path in track(files, f"{name}: copying")))
    if not recorded:
        write_manifest(root, name)
    return verify_dataset(root, name)


def _select(name: str, source: Path, expected: Expectation) -> list[Path]:
    """The files of the dataset; other files in the folder are passed over."""
    files = files_in(source, [expected.pattern])
    if expected.names is not None:
        missing = sorted(set(expected.names) - {path.name for path in files})
        _refuse(name, [f"{source} lacks {file}" for file in missing])
        files = [path for path in files if path.name in expected.names]
    if len(files) != expected.count:
        raise LorunError(f"{name}: expected {expected.count} files {expected.pattern} in {source}, found {len(files)}")
    return files


def _refuse(name: str, problems: list[str]) -> None:
    if problems:
        others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise LorunError(f"{name}: {problems[0]}{others}")


def _problems(paths: list[Path], name: str, entry: Dataset, expected: Expectation) -> Iterator[str]:
    """One line for each file that is not an image or cube of the dataset."""
    for path in track(paths, f"{name}: checking"):
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
        if expected.channels == 3 and image.mode in {"1", "L", "LA"}:
            raise LorunError("is gray, expected RGB")
    if expected.channels == 1 and not ((r == g).all() and (r == b).all()):
        raise LorunError("is in colour, expected gray")
