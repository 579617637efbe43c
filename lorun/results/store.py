"""The result store: the only module that knows the files of a result set, and that reads or writes them."""

import dataclasses
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from lorun.config.reading import load_json
from lorun.errors import LorunError, one_line
from lorun.files import write_text
from lorun.revisions import UnknownRevision, files_at, git

SCHEMA = 2
"""Version of the files below. Sets of another one are not read."""

METHOD = ("task", "setting", "method")
RUN = (*METHOD, "seed")
SCORE = ("task", "dataset", "setting", "method", "seed", "image", "degradation", "protocol", "metric")
PLACE = ("task", "dataset", "setting")
LINE = (*PLACE, "protocol", "method")
"""What identifies a line: of a method, of a run, of a score, of a section of the summary, of the summary."""

NO_RESULT = ("not_run", "failed")
"""Statuses of runs whose training did not end."""

RUN_COLUMNS = (
    *(*RUN, "run", "config_hash", "status", "message", "steps", "scored_step", "checkpoint_policy"),
    *("training_flops", "precision"),
    *("trained_commit", "trained_dirty", "trained_device", "trained_threads", "trained_code"),
    *("commit", "dirty", "data_md5", "device", "threads", "python", "versions", "code", "accepted"),
)
ROW_COLUMNS = (*SCORE, "value")
COUNTED = ("parameters_network", "parameters_trainable", "step_total", "inference_total", "flops")
"""Columns of counts that a version stands for, with the scores."""

_PLACE = ("task", "dataset", "simulated", "setting")  # as the columns stand

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "runs": RUN_COLUMNS,
    "rows": ROW_COLUMNS,
    "accounting": METHOD,
    "trainings": (*RUN, "status", "steps", "unmoved", "names"),
    "timing": (*RUN, "what", "median_ms", "min_ms", "max_ms", "repeats", "seconds", "device", "threads"),
    "curves": (*RUN, "step", "loss", "validation_psnr", "learning_rate"),
    "tuning": (
        *(*METHOD, "parameter", "value", "whole", "run", "status", "validation_psnr", "steps"),
        *("training_flops", "chosen"),
    ),
    "summary": LINE,
    "degradations": (
        *(*_PLACE, "operator", "method", "protocol", "metric", "degradation"),
        *("value", "sd", "seeds", "images"),
    ),
    "differences": (
        *(*_PLACE, "protocol", "metric", "method", "reference"),
        *("mean", "low", "high", "images", "seeds", "least", "verdict"),
    ),
    "claims": (*_PLACE, "stages", "claim", "unit", "published", "ours", "delta"),
    "comparison": (
        *(*_PLACE, "operator", "protocol", "method", "metric", "degradation"),
        *("published", "ours", "delta", "tolerance", "verdict", "weights", "confidence", "source"),
    ),
    "tasks": ("task", "dataset", "setting", "base"),
}
"""The tables of a result set and their columns."""

_ADDED = {"training_flops", "precision"}
"""Columns that result sets written before them lack: null there."""

_OPEN = ("accounting", "summary", "tasks")
"""Tables that have further columns."""

# A setting may be called 001, an image NA, and a hash may look like a number: names stay text. All other columns, those
# of metrics for example, hold floating-point numbers.
_TEXT = {
    *("task", "dataset", "setting", "method", "degradation", "protocol", "metric", "operator", "base"),
    *("run", "config_hash", "account_key", "status", "message", "checkpoint_policy", "data_md5", "python", "versions"),
    *("commit", "device", "code", "trained_commit", "trained_device", "trained_code"),
    *("reference", "names", "what", "claim", "unit", "verdict", "weights", "confidence", "source", "matrix"),
    *("published_source", "parameter", "precision", "step_precision", "step_recompute"),
    *("step_phase", "kept_phase", "recomputed_phase", "inference_phase"),
}
_TRUTH = {"dirty", "trained_dirty", "simulated", "chosen", "whole"}
_INTEGER = {
    *("seed", "seeds", "seeds_planned", "accepted", "images", "steps", "scored_step", "step", "unmoved", "repeats"),
    *("threads", "trained_threads", "stages", "m", "flops", "training_flops", "image"),
}
_INTEGER_PREFIXES = ("parameters_", "bytes_", "step_", "kept_", "recomputed_", "inference_", "cuda_")

_ROWS = "rows_sha256"  # key of evaluation.json

_DIGITS = 6  # of a score: finer than it means anything, coarse enough to hide noise of the last bit


@dataclass(frozen=True, config={"strict": True, "extra": "forbid"})
class Version:
    """`version` counts the contents that the set has had; `scores` is the sha256 of its scores and counts, `files` has
    that of each table. Older sets have no `files`."""

    result_set: str
    version: int
    schema: int
    scores: str
    files: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def cited(self) -> str:
        """How a text cites it."""
        return f"version {self.version}, scores {self.scores[:10]}"


@dataclasses.dataclass(frozen=True)
class ResultSet:
    """The tables of one result set; one without a file is empty."""

    name: str  # of its folder, e.g. quick
    where: str  # it was read from, for messages
    runs: pd.DataFrame  # a line per run: status, training, provenance
    rows: pd.DataFrame  # a line per measured value
    accounting: pd.DataFrame  # a line per method: parameters, bytes, FLOPs
    trainings: pd.DataFrame  # a line per training: how it ended
    timing: pd.DataFrame  # a line per measured time
    curves: pd.DataFrame  # a line per validation during a training
    tuning: pd.DataFrame  # a line per training that a learning rate was chosen by
    summary: pd.DataFrame  # this and the following are computed from the above
    degradations: pd.DataFrame
    differences: pd.DataFrame
    claims: pd.DataFrame
    comparison: pd.DataFrame
    tasks: pd.DataFrame
    code: dict[str, dict[str, str]]  # digests of modules by the id that `runs.code` and others name
    version: Version | None

    def scores(self) -> pd.DataFrame:
        """The rows, each with the columns of its run."""
        return self.rows.merge(self.runs, on=list(RUN), how="left")


def read_result_set(source: str | Path, root: Path = Path()) -> ResultSet:
    """The result set in a folder, or in a folder at a git revision, e.g. "main:results/quick".

    Raises:
        LorunError: there is none, or one of its tables is damaged or not what version.json was written for.
    """
    top, found = _find(str(source), root)
    if top not in found:
        raise LorunError(f"{source}: no result set here (rows.csv is missing); `lorun table` writes one")
    return result_set_of(top, found[top])


def read_result_sets(source: str | Path, root: Path = Path()) -> list[ResultSet]:
    """The result sets of a folder and of its subfolders, by name.

    Args:
        source: a folder, or REV:FOLDER of a git repository; REV alone means REV:results.
        root: what relative paths start from; a folder of the repository.

    Raises:
        LorunError: there is none, or a table is damaged.
    """
    _, found = _find(str(source), root)
    if not found:
        raise LorunError(f"{source}: no result set here or in a subfolder (rows.csv is missing)")
    return [result_set_of(where, files) for where, files in found.items()]


def result_set_of(where: str, files: Mapping[str, bytes]) -> ResultSet:
    """The result set of files by name, which come from `where`: a folder, whose name is that of the set.

    Raises:
        LorunError: a table is missing, damaged, or not what version.json was written for.
    """
    version = _version(f"{where}/version.json", files.get("version.json"))
    if version is not None and version.schema != SCHEMA:
        raise LorunError(f"{where}/version.json: schema {version.schema}, which only the code of its commit reads")
    if "runs.csv" not in files:
        raise LorunError(
            f"{where}/runs.csv: missing; restore it from git or write the set with `lorun table`. A set of schema 1 "
            "has none, and only the code of its commit reads it"
        )
    tables: dict[str, Any] = {}
    for table in COLUMNS:
        name = f"{where}/{table}.csv"
        raw = _read_csv(name, files[f"{table}.csv"]) if f"{table}.csv" in files else pd.DataFrame()
        tables[table] = _typed(name, raw, table)
    code = _read_json(f"{where}/code.json", files.get("code.json", b"{}"))
    _check(where, tables["runs"], tables["rows"], code)
    name = Path(where).resolve().name.rpartition(":")[2]  # also of REV:FOLDER
    results = ResultSet(name=name, where=where, code=code, version=version, **tables)
    _check_version(results, files)
    return results


def read_summary(folder: Path, commit: str) -> pd.DataFrame | None:
    """Only the summary of a result set at a commit; None if it had none.

    Raises:
        LorunError: the summary is damaged.
    """
    content = files_at(folder.parent, commit, f"{folder.name}/summary.csv".__eq__).values()
    return next((_typed("summary.csv", _read_csv("summary.csv", one), "summary") for one in content), None)


def save_result_set(
    folder: Path,
    results: ResultSet,
    pages: Mapping[str, str] | None = None,
    draw: Callable[[Path], object] | None = None,
) -> Version:
    """Write all tables of a result set, its version, and pages (texts by file name) into `folder`; other files stay.

    `draw` writes figures into the folder that it is given. All happens in a copy of the folder, which then takes its
    place: an error or a killed process leaves the old files. The number of the version goes up if scores or counts
    differ from those that are there.

    Raises:
        LorunError: a file cannot be written, or the version that is there cannot be read.
    """
    tables = {name: getattr(results, name) for name in COLUMNS if name != "tasks" or len(results.tasks)}
    named = _code_named(results.runs) | _code_named(results.accounting)
    files = {
        **{f"{name}.csv": _csv(frame) for name, frame in tables.items()},
        "code.json": json.dumps({name: results.code[name] for name in sorted(named)}, indent=1) + "\n",
    }
    version = _next_version(folder, results, {name: _sha256(text.encode()) for name, text in files.items()})
    files |= {"version.json": json.dumps(dataclasses.asdict(version), indent=1) + "\n", **(pages or {})}
    with _changed(folder) as part:
        for name, text in files.items():
            write_text(part / name, text)
        if "tasks" not in tables:
            (part / "tasks.csv").unlink(missing_ok=True)
        if draw is not None:
            draw(part)
    return version


def write_evaluation(path: Path, run: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the rows of one run as CSV, and the run's line of runs.csv as JSON next to it.

    The JSON has whole mappings of modules under `trained_code` and `code`, and the sha256 of the CSV. It is written
    first: an evaluation is there once its CSV is.
    """
    if not path.name:
        raise LorunError(f"{path}: a folder: name a file for the scores")
    frame = pd.DataFrame(list(rows), columns=list(ROW_COLUMNS))
    frame["value"] = frame["value"].astype(float).round(_DIGITS)
    line = {**{name: run.get(name) for name in RUN_COLUMNS}, _ROWS: _sha256(_csv(frame).encode())}
    write_text(path.with_suffix(".json"), json.dumps(line, indent=1) + "\n")
    write_table(path, frame)


def read_evaluation(path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """The run and the rows that `write_evaluation` wrote.

    Raises:
        LorunError: a file is missing or damaged, or the rows are not those that were written.
    """
    about = path.with_suffix(".json")
    for file in (path, about):
        if not file.is_file():
            raise LorunError(f"{file}: no such file; `lorun evaluate` writes it")
    run, content = _read_json(str(about), about.read_bytes()), path.read_bytes()
    if odd := set(run) ^ {*RUN_COLUMNS, _ROWS}:
        raise LorunError(f"{about}: wrong keys: {_listed(odd)}; `lorun evaluate` makes it again")
    table = _typed(str(path), _read_csv(str(path), content), "rows")
    if run.pop(_ROWS) != _sha256(content):
        raise LorunError(f"{path}: cut or changed since it was written; `lorun evaluate` makes it again")
    return run, table


def read_account(path: Path) -> dict[str, Any]:
    """The line of a method in accounting.csv, and its latency, that `lorun account` wrote.

    Raises:
        LorunError: the file is missing or damaged.
    """
    try:
        account = _read_json(str(path), path.read_bytes())
        other = ("code", "latency_")
        make_table("accounting", [{name: value for name, value in account.items() if not name.startswith(other)}])
    except OSError as error:
        raise LorunError(f"{path}: cannot be read: {error.strerror}") from error
    except LorunError as error:
        raise LorunError(f"{path}: damaged; remove it, or run `lorun account`, to make it again") from error
    return account


def code_id(modules: Mapping[str, str] | None) -> str | None:
    """The name of a set of module digests in code.json; None if the modules are not known."""
    return None if modules is None else _sha256(json.dumps(dict(modules), sort_keys=True).encode())[:12]


def scores_digest(results: ResultSet) -> str:
    """The sha256 of scores, statuses and counts, in no particular order.

    Where and when they were made does not count: commit, machine, packages, hashes of the configuration, times.
    """
    tables = (
        (results.rows, ROW_COLUMNS),
        (results.runs, (*RUN, "status", "steps", "scored_step", "checkpoint_policy")),
        (results.accounting, (*METHOD, *COUNTED)),
    )
    lines = []
    for frame, columns in tables:
        text = _csv(frame.reindex(columns=list(columns)), header=False, float_format="%.6f")
        lines += [*sorted(text.splitlines()), ""]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def make_table(name: str, lines: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The table `name` of a result set from its lines, typed as if it had been read; what it has no column for is left
    out, unless it may have further columns."""
    return _typed(name, pd.DataFrame(list(lines), columns=None if name in _OPEN else list(COLUMNS[name])), name)


def new_result_set(name: str, code: dict[str, dict[str, str]], **lines: Iterable[Mapping[str, Any]]) -> ResultSet:
    """A result set from the lines of some of its tables; the others are empty."""
    tables: dict[str, Any] = {table: make_table(table, lines.get(table, ())) for table in COLUMNS}
    return ResultSet(name=name, where=name, code=code, version=None, **tables)


def grouped(frame: pd.DataFrame, by: Iterable[str]) -> dict[tuple[Any, ...], pd.DataFrame]:
    """The lines of a table by the values in these columns, in order of appearance."""
    return dict(list(frame.groupby(list(by), sort=False)))


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write any table as CSV, atomically; null is an empty field."""
    write_text(path, _csv(frame))


def read_table(path: Path) -> pd.DataFrame:
    """A table that `write_table` wrote. Names stay text, such as a setting called 10 or NA. Raises ValueError."""
    return _parsed(path, dict.fromkeys([*_TEXT, "profile", "same_network"], str))


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The lines of a table for JSON, see `plain`."""
    return [{str(name): plain(value) for name, value in line.items()} for line in frame.to_dict("records")]


def plain(value: Any) -> Any:
    """A value of a table for JSON: null is None, numbers are Python's."""
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _find(source: str, root: Path) -> tuple[str, dict[str, dict[str, bytes]]]:
    """The place that `source` stands for, and the tables and JSON files of each result set in it or its subfolders."""
    path = root / source
    if path.is_dir():
        folders = [file.parent for pattern in ("rows.csv", "*/rows.csv") for file in path.glob(pattern)]
        files: Mapping[str, bytes] = {
            str(file): file.read_bytes() for folder in folders for file in folder.iterdir() if _is_table(file)
        }
        prefix, place = "", str(path)
    else:
        revision, _, named = source.partition(":")
        top = PurePosixPath((named or "results").strip("/"))
        prefix, place = f"{revision}:", f"{revision}:{top}"
        try:
            if revision.startswith("-"):
                raise UnknownRevision("not the name of a revision")
            repository = Path(git(root, "rev-parse", "--show-toplevel").decode().removesuffix("\n"))
            files = files_at(
                repository, revision, lambda file: _is_table(file) and top in PurePosixPath(file).parents[:2]
            )
        except UnknownRevision as error:
            if isinstance(error.__cause__, OSError):
                raise LorunError("git is not installed: name folders instead of revisions") from None
            raise LorunError(f"{source}: neither a folder nor a git revision (REV or REV:FOLDER)") from None
    sets: dict[str, dict[str, bytes]] = {}
    for name, content in sorted(files.items()):
        sets.setdefault(prefix + str(PurePosixPath(name).parent), {})[PurePosixPath(name).name] = content
    return place, {folder: held for folder, held in sets.items() if "rows.csv" in held}


def _is_table(file: str | Path) -> bool:
    return str(file).endswith((".csv", ".json"))


def _check_version(results: ResultSet, files: Mapping[str, bytes]) -> None:
    """Raise LorunError where a table is not the one that version.json was written for."""
    again = "restore it from git, or write the set again with `lorun table`"
    if results.version is None:
        return
    for name, digest in results.version.files.items():
        if _sha256(files.get(name, b"")) != digest:
            raise LorunError(f"{results.where}/{name}: not what was written with version.json; {again}")
    if results.version.scores != scores_digest(results):
        raise LorunError(f"{results.where}: its tables hold other scores than version.json says; {again}")


@contextmanager
def _changed(folder: Path) -> Iterator[Path]:
    """A copy of a folder, to change; it takes the folder's place, unless there is an error.

    Its files are links: replace them, do not write into them.
    """
    place = folder.resolve()
    if Path.cwd().is_relative_to(place):
        raise LorunError(f"{folder}: a result set takes the place of its folder: name one that you are not in")
    place.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.", suffix=".part") as temporary:
        new, old = Path(temporary, "new"), Path(temporary, "old")
        if place.is_dir():
            shutil.copytree(place, new, symlinks=True, copy_function=os.link)
        else:
            new.mkdir()
        yield new
        try:
            if place.is_dir():
                place.rename(old)
            new.rename(place)
        except OSError as error:
            if old.is_dir():
                old.rename(place)
            raise LorunError(f"cannot write {folder}: {error.strerror}. What was there before is untouched.") from error


def _next_version(folder: Path, results: ResultSet, files: dict[str, str]) -> Version:
    path = folder / "version.json"
    before = _version(str(path), path.read_bytes() if path.is_file() else None)
    digest = scores_digest(results)
    number = 1 if before is None else before.version + (before.scores != digest)
    return Version(results.name, number, SCHEMA, digest, files)


def _code_named(frame: pd.DataFrame) -> set[str]:
    """The ids of code.json that a table names."""
    return {name for column in ("code", "trained_code") if column in frame for name in frame[column].dropna()}


def _read_csv(where: str, content: bytes) -> pd.DataFrame:
    """A table as text; an empty field is null, everything else is what it says."""
    if not content:
        raise LorunError(f"{where}: empty file")
    try:
        return _parsed(io.BytesIO(content), str)
    except ValueError as error:
        raise LorunError(f"{where}: not a readable table ({error})") from error


def _parsed(source: Path | io.BytesIO, types: Any) -> pd.DataFrame:
    """A table in which only an empty field is null. Raises ValueError, with a message of one line."""
    try:
        return pd.read_csv(source, dtype=types, keep_default_na=False, na_values=[""])
    except ValueError as error:
        raise ValueError(one_line(error)) from error


def _read_json(where: str, content: bytes | None) -> dict[str, Any]:
    try:
        held = load_json(content or b"")
    except ValueError as error:
        raise LorunError(f"{where}: damaged; restore it ({error})") from error
    if not isinstance(held, dict):
        raise LorunError(f"{where}: damaged; restore it (not a JSON object)")
    return held


def _version(where: str, content: bytes | None) -> Version | None:
    try:
        return None if content is None else TypeAdapter(Version).validate_json(content)
    except ValidationError as error:
        problem = error.errors()[0]
        about = " ".join(map(str, [*problem["loc"], problem["msg"]]))
        raise LorunError(f"{where}: damaged; restore it from git, or remove it to count anew ({about})") from error


def _typed(where: str, frame: pd.DataFrame, table: str) -> pd.DataFrame:
    """A table of text with the type of each column.

    Raises:
        LorunError: it lacks columns, has others than it should, or holds text where numbers belong.
    """
    needed, exactly = COLUMNS[table], table not in _OPEN
    if frame.columns.empty:
        frame = pd.DataFrame(columns=list(needed), dtype=str)
    frame = frame.reindex(columns=[*frame.columns, *sorted(_ADDED & set(needed) - set(frame.columns))])
    odd = set(needed) ^ set(frame.columns) if exactly else set(needed) - set(frame.columns)
    if odd:
        raise LorunError(f"{where}: wrong columns: {_listed(odd)}")
    typed = {}
    for name in needed if exactly else frame.columns:
        try:
            typed[name] = _column(name, frame[name], name in needed)
        except (ValueError, TypeError) as error:
            raise LorunError(f"{where}: wrong value in column {name} ({error})") from error
    return pd.DataFrame(typed)


def _column(name: str, values: pd.Series, key: bool) -> pd.Series:
    if name in _TEXT or (name == "image" and key):  # the name of an image in rows.csv, its side in other tables
        return values.astype("str")
    if name in _TRUTH:
        return values.map({"True": True, "False": False, True: True, False: False}).astype("boolean")
    numbers = values.astype(object).where(values.notna(), float("nan")).astype(float)
    return numbers.astype("Int64") if name in _INTEGER or name.startswith(_INTEGER_PREFIXES) else numbers


def _check(where: str, runs: pd.DataFrame, rows: pd.DataFrame, code: Mapping[str, Any]) -> None:
    for table, frame, key in (("runs.csv", runs, RUN), ("rows.csv", rows, SCORE)):
        twice = frame[frame.duplicated(list(key))]
        if len(twice):
            raise LorunError(f"{where}/{table}: two lines of {_named(twice.iloc[0], key)}")
    if rows["value"].isna().any():
        raise LorunError(f"{where}/rows.csv: no value of {_named(rows[rows['value'].isna()].iloc[0], SCORE)}")
    known = pd.MultiIndex.from_frame(runs[list(RUN)])
    foreign = rows[~pd.MultiIndex.from_frame(rows[list(RUN)]).isin(known)]
    if len(foreign):
        raise LorunError(f"{where}/rows.csv: the run {_named(foreign.iloc[0], RUN)} is not in runs.csv")
    unknown = _code_named(runs) - set(code)
    if unknown:
        raise LorunError(f"{where}/code.json: no code {_listed(unknown)}, which runs.csv names")


def _named(row: pd.Series, key: tuple[str, ...]) -> str:
    return " ".join(str(row[name]) for name in key if pd.notna(row[name]))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(name if name.isprintable() else repr(name) for name in sorted(names))


def _sha256(content: bytes) -> str:
    """Of a text file, whatever its line ends."""
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()


def _csv(frame: pd.DataFrame, **options: Any) -> str:
    return frame.to_csv(index=False, lineterminator="\n", **options)
