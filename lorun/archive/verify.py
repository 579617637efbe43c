"""Check an archive, packed or unpacked. Nothing is extracted, and neither git nor a checkout is needed."""

import errno
import hashlib
import io
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from lorun.archive.manifest import MANIFEST, check_path, read_manifest
from lorun.errors import LorunError, one_line
from lorun.results.store import Version, result_set_of

Files = Mapping[str, Callable[[], IO[bytes]]]
"""How each file of an archive is opened, by its path."""

_LONGEST = 10_000_000  # bytes of SHA256SUMS
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def verify(source: Path) -> tuple[int, list[Version]]:
    """Check every file of an archive, and that its scores are those of its version.

    Args:
        source: a ZIP file that `lorun export` wrote, or the folder that it was unpacked into.

    Returns:
        The number of files, and the versions of the result sets in it.

    Raises:
        LorunError: a file is missing, additional, changed, a link, or has a path that leaves the archive; or the scores
            of a result set are not those of its version. The first is named.
    """
    try:
        with _opened(source) as files:
            if MANIFEST not in files:
                raise LorunError(f"no {MANIFEST}: not an archive that `lorun export` wrote, or not all of it")
            with _readable(MANIFEST), files[MANIFEST]() as stream:
                hashes = read_manifest(stream.read(_LONGEST))
            _check_files(files, hashes)
            return len(files), _versions(files)
    except LorunError as error:
        raise LorunError(f"{source}: {error}") from error


def _check_files(files: Files, hashes: Mapping[str, str]) -> None:
    problems = [f"{name} is missing" for name in sorted(hashes.keys() - files.keys())]
    problems += [f"{name} is not part of it" for name in sorted(files.keys() - hashes.keys() - {MANIFEST})]
    for name in sorted(hashes.keys() & files.keys()):
        with _readable(name), files[name]() as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != hashes[name]:  # type: ignore[arg-type]
                problems.append(f"{name} is not what was exported")
    if problems:
        more = f", and {len(problems) - 1} more differ" if len(problems) > 1 else ""
        raise LorunError(problems[0] + more)


def _versions(files: Files) -> list[Version]:
    """The version of each result set, whose tables fit it."""
    places = [PurePosixPath(name) for name in files]
    versions = []
    for folder in sorted(place.parent for place in places if place.name == "rows.csv"):
        tables = {}
        for place in places:
            if place.parent == folder and place.suffix in (".csv", ".json"):
                with files[str(place)]() as stream:
                    tables[place.name] = stream.read()
        version = result_set_of(str(folder), tables).version
        if version is None:
            raise LorunError(f"{folder}/version.json is missing")
        versions.append(version)
    if not versions:
        raise LorunError("no result set (rows.csv) in it")
    return versions


@contextmanager
def _opened(source: Path) -> Iterator[Files]:
    """The files of a folder or a ZIP file."""
    if source.is_dir():
        yield {path.relative_to(source).as_posix(): partial(io.FileIO, path) for path in _files_in(source)}
        return
    try:
        archive = zipfile.ZipFile(source)
    except _UNREADABLE as error:
        raise LorunError(f"not a ZIP file, or damaged ({one_line(error)})") from error
    with archive:
        yield {name: partial(archive.open, entry) for name, entry in _entries(archive).items()}


def _files_in(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=fail):
        for path in (Path(place, name) for name in (*folders, *files)):
            _check_kind(path.relative_to(folder).as_posix(), path.lstat().st_mode)
        yield from (Path(place, name) for name in files)


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The entries of a ZIP file that are files, by path."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = entry.orig_filename
        check_path(name.removesuffix("/"))
        _check_kind(name, entry.external_attr >> 16)
        if name in entries:
            raise LorunError(f"{name} is in it twice")
        if not name.endswith("/"):
            entries[name] = entry
    return entries


def _check_kind(name: str, mode: int) -> None:
    """Raise LorunError for what is neither a file nor a folder; 0 is the kind where a ZIP file does not say it."""
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise LorunError(f"{name} is a link or no ordinary file")


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise LorunError(f"{name} is damaged ({one_line(error)[:200]})") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place before the start of a ZIP file
            raise
        raise LorunError(f"{name} is damaged: its place is none in the file") from error
