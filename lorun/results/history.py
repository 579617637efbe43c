"""A score over the commits of its result set, read from git."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from lorun.errors import LorunError, UnknownName
from lorun.files import write_atomically
from lorun.results.version import FILE as VERSION
from lorun.revisions import commits_of, files_at

WHICH = ("task", "dataset", "setting", "protocol", "method")
"""What tells one series from another; all revisions of a summary have them."""

TABLE = "summary.csv"

COLUMNS = ("result_set", "commit", "date", "subject", "version", *WHICH, "metric", "value", "sd")


@dataclass
class History:
    """`table` has a row per commit and series, oldest first, with the columns COLUMNS; `unread` says what could not be
    read, and why."""

    table: pd.DataFrame
    unread: list[str] = field(default_factory=list)


def history(folders: Sequence[Path], metric: str, chosen: Mapping[str, str | None]) -> History:
    """The values of a column of summary.csv at every commit that changed the table, for the lines that are chosen.

    `chosen` has a value, or None for all, by the names in WHICH; no protocol means the one that leads a table. A line
    that is gone has null from there on. Revisions may have had other columns: what one lacks is told in `unread`.

    Raises:
        LorunError: a folder has no history; no revision has such a column, or such a line; the choices are named.
    """
    found, unread = [], []
    for folder in folders:
        for commit, date, subject in commits_of(folder.parent, str(folder.name)):
            table, version = _tables(folder, commit)
            where = f"{folder} at {commit[:9]} ({date[:10]})"
            if table is None:
                continue
            try:
                frame = _read(table)
            except LorunError as error:
                unread.append(f"{where}: {error}")
                continue
            about = {"result_set": folder.name, "commit": commit, "date": date, "subject": subject, "version": version}
            found.append((where, about, frame))
    if not found:
        names = ", ".join(map(str, folders))
        raise LorunError(f"{names}: no {TABLE} in the history of git" + "".join(f"; {one}" for one in unread))
    numbers = {str(name) for _, _, frame in found for name in frame if _is_number(frame[name])} - {*WHICH, "seeds"}
    if metric not in numbers:
        raise UnknownName("metric", metric, sorted(numbers))
    _check_choices(found, chosen)
    records: list[dict[str, Any]] = []
    seen: dict[tuple[str, ...], None] = {}
    for where, about, frame in found:
        if metric not in frame:
            unread.append(f"{where}: has no column {metric!r}")
            continue
        scores = {
            (about["result_set"], *line[list(WHICH)]): {"value": line[metric], "sd": line.get(f"{metric}_sd")}
            for _, line in _lines(frame, chosen).iterrows()
        }
        seen |= dict.fromkeys(scores)
        for series in [series for series in seen if series[0] == about["result_set"]]:
            score = scores.get(series, {"value": None, "sd": None})
            records.append({**about, "metric": metric, **dict(zip(WHICH, series[1:], strict=True)), **score})
    return History(_of_changes(pd.DataFrame(records, columns=list(COLUMNS))), unread)


def render(found: History) -> str:
    """A paragraph per series: when it had which value, and by how much that differs from the one before."""
    if found.table.empty:
        return "\n".join(["no values", *found.unread])
    text = []
    for which, of in found.table.groupby(["result_set", *WHICH, "metric"], sort=False):
        *names, metric = which
        text.append(f"{'/'.join(map(str, names))}: {metric}")
        before = None
        for _, row in of.iterrows():
            value = "–" if pd.isna(row.value) else f"{row.value:.10g}"
            sd = "" if pd.isna(row.sd) else f" ± {row.sd:.6g}"
            delta = "" if before is None or pd.isna(row.value) else f"{row.value - before:+.6g}"
            version = "" if pd.isna(row.version) else f"version {int(row.version)}"
            line = f"  {row.date[:10]}  {row.commit[:9]}  {value + sd:24} {delta:12} {version:12} {row.subject}"
            text.append(line.rstrip())
            before = None if pd.isna(row.value) else row.value
    return "\n".join([*text, *(f"not read: {one}" for one in found.unread)])


def as_records(found: History) -> dict[str, Any]:
    """All of it for JSON; what is not known is null."""
    table = found.table.astype(object)
    return {"rows": table.where(table.notna(), None).to_dict("records"), "unread": found.unread}


def write_plot(found: History, path: Path) -> None:
    """Draw every series over the commits, as PNG.

    Raises:
        LorunError: there is nothing to draw.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    known = found.table.dropna(subset="value")
    if known.empty:
        raise LorunError(f"{path}: no value to draw")
    in_order = known.assign(moment=pd.to_datetime(known.date, utc=True)).sort_values("moment", kind="stable")
    commits = list(dict.fromkeys(zip(in_order.date.str[:10], in_order.commit.str[:9], strict=True)))
    place = {commit: number for number, (_, commit) in enumerate(commits)}
    varying = [name for name in ("result_set", *WHICH) if known[name].nunique() > 1] or ["method"]
    figure, axes = plt.subplots(figsize=(1.2 * max(len(commits), 4) + 3, 4.4), layout="constrained")
    for which, of in known.groupby(varying, sort=False):
        error = pd.to_numeric(of.sd).fillna(0.0)
        at = [place[commit[:9]] for commit in of.commit]
        axes.errorbar(at, of.value, yerr=error, marker="o", capsize=3, label=" / ".join(map(str, which)))
    axes.set_xticks(range(len(commits)), [f"{date}\n{commit}" for date, commit in commits], fontsize=7, rotation=30)
    axes.set_ylabel(known.metric.iloc[0])
    fixed = [str(known[name].iloc[0]) for name in ("result_set", *WHICH) if name not in varying]
    axes.set_title(", ".join(fixed), fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    # No version in the file: the same figure gives the same bytes.
    write_atomically(path, lambda part: figure.savefig(part, format="png", dpi=150, metadata={"Software": None}))
    plt.close(figure)


def _tables(folder: Path, commit: str) -> tuple[bytes | None, int | None]:
    """The summary of a commit, and its version where it has one."""
    names = {f"{folder.name}/{name}": name for name in (TABLE, VERSION)}
    found = {names[path]: content for path, content in files_at(folder.parent, commit, names.__contains__).items()}
    try:
        version = int(json.loads(found[VERSION])["version"])
    except (KeyError, ValueError, TypeError):
        version = None
    return found.get(TABLE), version


def _read(content: bytes) -> pd.DataFrame:
    try:
        frame = pd.read_csv(BytesIO(content))
    except ValueError as error:
        raise LorunError(f"{TABLE} is not a readable table ({error})") from error
    missing = [name for name in WHICH if name not in frame]
    if missing:
        raise LorunError(f"{TABLE} has no column {', '.join(missing)}")
    return frame.astype(dict.fromkeys(WHICH, str))


def _is_number(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column))


def _check_choices(found: Sequence[tuple[str, Any, pd.DataFrame]], chosen: Mapping[str, str | None]) -> None:
    for name, value in chosen.items():
        known = sorted({str(one) for _, _, frame in found for one in frame[name]})
        if value is not None and value not in known:
            raise UnknownName(name, value, known)


def _lines(frame: pd.DataFrame, chosen: Mapping[str, str | None]) -> pd.DataFrame:
    for name, value in chosen.items():
        if value is not None:
            frame = frame[frame[name] == value]
    if chosen.get("protocol") is None:
        leading = frame.groupby(["task", "dataset", "setting"], sort=False).protocol.transform("first")
        frame = frame[frame.protocol == leading]
    return frame


def _of_changes(table: pd.DataFrame) -> pd.DataFrame:
    """Without the commits at which a series stayed what it was."""
    series = table.groupby(["result_set", *WHICH], sort=False)
    kept = pd.Series(True, index=table.index)
    for name in ("value", "sd", "version"):
        before = series[name].shift()
        same = (table[name] == before) | (table[name].isna() & before.isna())
        kept = same if name == "value" else kept & same
    return table[~kept | (series.cumcount() == 0)].reset_index(drop=True)
