"""Write a result set with its origin into one ZIP file."""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from lorun.archive.appendix import appendix
from lorun.archive.crate import CRATE, crate
from lorun.archive.manifest import MANIFEST, check_path, manifest
from lorun.archive.origin import origin_of, read
from lorun.errors import LorunError
from lorun.files import write_atomically
from lorun.profiles.reading import files_of
from lorun.profiles.trials import trials_path
from lorun.results.store import COLUMNS, result_set_of
from lorun.revisions import UnknownRevision, commits_of

_TABLES = (*(f"{name}.csv" for name in COLUMNS), "code.json", "summary.json", "version.json")
_PAGES = (".md", ".png", ".pdf")  # and figures
_TIME = (1980, 1, 1, 0, 0, 0)  # of every entry; the earliest that a ZIP file can hold


def write_archive(
    folder: Path,
    config: Path,
    out: Path,
    *,
    data: Path,
    root: Path = Path(),
    date: str | None = None,
) -> int:
    """Write the archive of a result set; return the number of its files. The same set gives the same bytes.

    It holds the tables, version and pages, the profile with those that it extends and the tuned learning rates, the
    citation, the licence, the appendix, an RO-Crate, and SHA256SUMS. Entries are stored without compression, sorted,
    with one time, so that no byte depends on the machine.

    Args:
        folder: the result set.
        config: the file of its profile.
        data: the folder of all datasets, for licences.
        root: the project's root, with CITATION.cff and LICENSE.
        date: of publication, YYYY-MM-DD; by default that of the last commit of the set.

    Raises:
        LorunError: there is no result set or it is damaged or without a version; the profile, the citation or the
            licence is missing; there is no date; rocrate is not installed; the file cannot be written.
    """
    name = folder.resolve().name
    held = {path.name: path.read_bytes() for path in _files(folder)}
    results = result_set_of(str(folder), held)
    if results.version is None:
        raise LorunError(f"{folder}/version.json: missing; `lorun table` writes it")
    origin = origin_of(results, config, data, root)
    trials = trials_path(config, origin.profile.profile)
    settings = [*files_of(config), *([trials] if trials.is_file() else [])]
    files = {
        **{f"results/{name}/{path}": content for path, content in held.items()},
        **{f"config/{path.relative_to(config.parent).as_posix()}": read(path) for path in settings},
        "APPENDIX.md": appendix(origin).encode(),
        **{path: read(root / path) for path in ("CITATION.cff", "LICENSE")},
    }
    files[CRATE] = crate(origin, f"config/{config.name}", files, date or _date(folder)).encode()
    files[MANIFEST] = manifest(files).encode()
    write_atomically(out, lambda part: _write(part, files))
    return len(files)


def _files(folder: Path) -> Iterator[Path]:
    """The files of a result set by name; others that lie in its folder are not exported."""
    if not (folder / "rows.csv").is_file():
        raise LorunError(f"{folder}: no result set here (rows.csv is missing); `lorun table` writes one")
    for path in sorted(folder.iterdir()):
        page = path.suffix in _PAGES and not path.name.startswith(".")
        if path.is_file() and (page or path.name in _TABLES):
            yield path


def _date(folder: Path) -> str:
    """The day of the last commit that changed a folder."""
    place = folder.resolve()
    with suppress(UnknownRevision):
        for _, date, _ in reversed(commits_of(place.parent, place.name)):
            return date[:10]
    raise LorunError(f"{folder}: no commit of git has it, so its date is not known: give --date")


def _write(path: Path, files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(check_path(name), _TIME)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16  # an ordinary file of Unix, for all to read
            archive.writestr(entry, files[name])
