"""Check an archive, packed or unpacked. Nothing is extracted, and neither git nor a checkout is needed."""

import hashlib
import os
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from lorun.archive.manifest import MANIFEST, check_path, read_manifest
from lorun.errors import LorunError, one_line
from lorun.results.store import Version, result_set_of

_LARGEST = 1_000_000_000  # bytes of all files, which are held in memory
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def verify(source: Path) -> tuple[int, list[Version]]:
    """Check every file of an archive, and that its scores are those of its version.

    Args:
        source: a ZIP file that `lorun export` wrote, or the folder that it was unpacked into.

    Returns:
        The number of files, and the versions of the result sets in it.

    Raises:
        LorunError: a file is missing, additional, changed, a link, or has a path that leaves the archive; all are
            larger than 1 GB; or the scores of a result set are not those of its version. The first is named.
    """
    try:
        files = _files_of_folder(source) if source.is_dir() else _files_of_zip(source)
        if MANIFEST not in files:
            raise LorunError(f"no {MANIFEST}: not an archive that `lorun export` wrote, or not all of it")
        _check_files(files, read_manifest(files[MANIFEST]))
        return len(files), _versions(files)
    except LorunError as error:
        raise LorunError(f"{source}: {error}") from error


def _check_files(files: Mapping[str, bytes], hashes: Mapping[str, str]) -> None:
    for name in sorted(hashes.keys() | files.keys() - {MANIFEST}):
        if name not in files:
            raise LorunError(f"{name} is missing")
        if name not in hashes:
            raise LorunError(f"{name} is not part of it")
        if hashlib.sha256(files[name]).hexdigest() != hashes[name]:
            raise LorunError(f"{name} is not what was exported")


def _versions(files: Mapping[str, bytes]) -> list[Version]:
    """The version of each result set, whose tables fit it."""
    tables: dict[PurePosixPath, dict[str, bytes]] = {}
    for path in map(PurePosixPath, files):
        if path.suffix in (".csv", ".json"):
            tables.setdefault(path.parent, {})[path.name] = files[str(path)]
    versions = []
    for folder, held in sorted(tables.items()):
        if "rows.csv" in held:
            version = result_set_of(str(folder), held).version
            if version is None:
                raise LorunError(f"{folder}/version.json is missing")
            versions.append(version)
    if not versions:
        raise LorunError("no result set (rows.csv) in it")
    return versions


def _files_of_folder(folder: Path) -> dict[str, bytes]:
    def fail(error: OSError) -> None:
        raise error

    sizes = {}
    for place, folders, files in os.walk(folder, onerror=fail):
        for path in (Path(place, name) for name in (*folders, *files)):
            status = path.lstat()
            _check_kind(path.relative_to(folder).as_posix(), status.st_mode)
            if not stat.S_ISDIR(status.st_mode):
                sizes[path] = status.st_size
    _check_size(sum(sizes.values()))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sizes}


def _files_of_zip(source: Path) -> dict[str, bytes]:
    try:
        archive = zipfile.ZipFile(source)
    except _UNREADABLE as error:
        raise LorunError(f"not a ZIP file, or damaged ({one_line(error)})") from error
    with archive:
        entries: dict[str, zipfile.ZipInfo] = {}
        for entry in archive.infolist():
            name = entry.orig_filename
            check_path(name.removesuffix("/"))
            _check_kind(name, entry.external_attr >> 16)
            if name in entries:
                raise LorunError(f"{name} is in it twice")
            if not name.endswith("/"):
                entries[name] = entry
        _check_size(sum(entry.file_size for entry in entries.values()))
        return {name: _content(archive, name, entry) for name, entry in entries.items()}


def _content(archive: zipfile.ZipFile, name: str, entry: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(entry)
    except (*_UNREADABLE, OSError) as error:  # OSError: a place before the start of the file
        raise LorunError(f"{name} is damaged ({one_line(error)[:200]})") from error


def _check_kind(name: str, mode: int) -> None:
    """Raise LorunError for what is neither a file nor a folder; 0 is the kind where a ZIP file does not say it."""
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise LorunError(f"{name} is a link or no ordinary file")


def _check_size(size: int) -> None:
    if size > _LARGEST:
        raise LorunError(f"too large for an archive of `lorun export`: {size / 1e9:.1f} GB")
