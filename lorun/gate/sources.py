"""Reading result sets to compare: from a folder, from a table of rows alone, or out of a git revision."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from lorun.errors import LorunError
from lorun.revisions import UnknownRevision, files_at, git

ROWS = "rows.csv"
KEY = ("task", "dataset", "setting", "method", "seed", "image", "degradation", "protocol", "metric")
"""What tells one score from another."""
RUN = ("task", "setting", "method", "seed")
"""What tells one training from another."""
METHOD = ("task", "setting", "method")

_NEEDED = {
    ROWS: (*(name for name in KEY if name != "degradation"), "value", "status"),
    "accounting.csv": METHOD,
    "trainings.csv": (*RUN, "unmoved", "names"),
    "timing.csv": (*METHOD, "what"),
}
_NUMBERS = ("value", "seed", "steps", "unmoved", "median_ms", "seconds")

Read = Callable[[str], bytes | None]
"""The content of a file by its name, None where there is no such file."""


@dataclass(frozen=True)
class ResultSet:
    """The tables of one result set; None is a table that it does not have.

    name       of its folder, e.g. quick
    where      it was read from, for messages
    rows       a score per row: `KEY`, value, status, and whatever more the table has
    accounts   a method per row (accounting.csv)
    trainings  a training per row (trainings.csv)
    timing     a measured time per row (timing.csv)
    """

    name: str
    where: str
    rows: pd.DataFrame
    accounts: pd.DataFrame | None = None
    trainings: pd.DataFrame | None = None
    timing: pd.DataFrame | None = None


def read_result_sets(source: str, root: Path = Path()) -> list[ResultSet]:
    """The result sets of `source`, by name.

    Args:
        source: a folder of a result set, or of several; a rows.csv; else REV or REV:FOLDER of a git repository, where
            REV alone stands for REV:results.
        root: what paths are relative to; inside of the repository.

    Raises:
        LorunError: there is no such thing, no result set in it, or a table is not readable.
    """
    path = root / source
    if path.is_file():
        content = path.read_bytes()
        return [_result_set(path.stem, str(source), lambda name: content if name == ROWS else None)]
    if path.is_dir():
        folders = sorted(found.parent for found in (*path.glob(ROWS), *path.glob(f"*/{ROWS}")))
        sets = [_result_set(folder.resolve().name, str(folder), _reader(folder)) for folder in folders]
    else:
        sets = _from_git(source, root)
    if not sets:
        raise LorunError(f"{source}: no result set here or in a folder of it ({ROWS} is missing)")
    return sets


def _reader(folder: Path) -> Read:
    return lambda name: (folder / name).read_bytes() if (folder / name).is_file() else None


def _from_git(source: str, root: Path) -> list[ResultSet]:
    revision, _, named = source.partition(":")
    folder = PurePosixPath((named or "results").strip("/"))

    def wanted(path: str) -> bool:
        place = PurePosixPath(path)
        return place == folder or (place.name in _NEEDED and folder in (place.parent, place.parent.parent))

    try:
        if revision.startswith("-"):
            raise UnknownRevision(revision)
        top = git(root, "rev-parse", "--show-toplevel").decode().removesuffix("\n")
        files = files_at(Path(top), revision, wanted)
    except UnknownRevision as error:
        if isinstance(error.__cause__, OSError):
            raise LorunError("git is not installed: name folders or tables of rows instead of revisions") from None
        raise LorunError(
            f"{source}: neither a folder, a table of rows, nor a git revision (REV or REV:FOLDER)"
        ) from None
    held = {PurePosixPath(path): content for path, content in files.items()}
    if folder in held:  # a file
        return [_result_set(folder.stem, source, lambda name: held[folder] if name == ROWS else None)]
    places = sorted((place.parent for place in held if place.name == ROWS), key=lambda place: (place != folder, place))
    return [_result_set(place.name, f"{revision}:{place}", _held_reader(held, place)) for place in places]


def _held_reader(held: Mapping[PurePosixPath, bytes], place: PurePosixPath) -> Read:
    return lambda name: held.get(place / name)


def _result_set(name: str, where: str, read: Read) -> ResultSet:
    tables = {table: _table(f"{where}: {table}", read(table), needed) for table, needed in _NEEDED.items()}
    rows = tables[ROWS]
    assert rows is not None
    return ResultSet(
        name, where, _checked(rows, where), tables["accounting.csv"], tables["trainings.csv"], tables["timing.csv"]
    )


def _table(what: str, content: bytes | None, needed: tuple[str, ...]) -> pd.DataFrame | None:
    if content is None:
        return None
    try:
        frame = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, na_values=[""])
    except ValueError as error:
        raise LorunError(f"{what}: not a readable table ({error})") from error
    missing = [column for column in needed if column not in frame.columns]
    if missing:
        raise LorunError(f"{what}: lacks the columns {', '.join(missing)}")
    for column in _NUMBERS:
        if column in frame.columns:
            try:
                frame[column] = pd.to_numeric(frame[column])
            except ValueError as error:
                raise LorunError(f"{what}: `{column}` is to hold numbers ({error})") from error
    return frame


def _checked(rows: pd.DataFrame, where: str) -> pd.DataFrame:
    """Rows with a degradation, which old tables lack, and none twice."""
    rows = rows if "degradation" in rows.columns else rows.assign(degradation=None)
    twice = rows[rows.duplicated(list(KEY))]
    if len(twice):
        row = twice.iloc[0]
        raise LorunError(f"{where}: two rows of {' '.join(str(row[name]) for name in KEY if pd.notna(row[name]))}")
    return rows
