"""Which runs and rows are missing, new, or ended worse."""

from collections.abc import Iterator

import pandas as pd

from lorun.gate.findings import Finding, Verdict
from lorun.gate.sources import KEY, METHOD, RUN

DONE = "completed"


def compare_presence(reference: pd.DataFrame, candidate: pd.DataFrame) -> Iterator[Finding]:
    """Runs by how they ended, then the rows of those that completed on both sides.

    A run that did not complete has one row without an image for many: its rows are not compared.
    """
    before, after = _statuses(reference), _statuses(candidate)
    ended: dict[tuple[str, str | None, str | None], list[str]] = {}
    unequal = set()
    for run in sorted(before.keys() | after.keys()):
        was, now = before.get(run), after.get(run)
        if not was == now == DONE:
            unequal.add(run)
            ended.setdefault(("/".join(run[:3]), was, now), []).append(run[3])
    for (subject, was, now), seeds in ended.items():
        which = f"{subject} seed {', '.join(seeds)}"
        if now is None:
            yield Finding("rows", "failed", which, f"missing; {was} in the reference")
        elif was is None:
            yield Finding("rows", "new", which, f"new; {now}")
        elif now == DONE:
            yield Finding("status", "improved", which, f"completed; {was} in the reference")
        else:
            verdict: Verdict = "failed" if was == DONE else "noted"
            yield Finding("status", verdict, which, f"{now}; {was} in the reference")
    yield from _compare_rows(reference, candidate, unequal)


def _statuses(rows: pd.DataFrame) -> dict[tuple[str, ...], str]:
    """How each run ended, by task, setting, method, seed: what its rows say besides completed."""
    said: dict[tuple[str, ...], set[str]] = {}
    for *run, status in rows[[*RUN, "status"]].drop_duplicates().itertuples(index=False, name=None):
        said.setdefault(tuple(map(str, run)), set()).add(str(status))
    return {run: " and ".join(sorted(statuses - {DONE})) or DONE for run, statuses in said.items()}


def _compare_rows(reference: pd.DataFrame, candidate: pd.DataFrame, unequal: set[tuple[str, ...]]) -> Iterator[Finding]:
    sides = [_keys(rows, unequal) for rows in (reference, candidate)]
    found = sides[0].merge(sides[1], on=list(KEY), how="outer", indicator=True)
    for method, of in found.groupby(list(METHOD), sort=True):
        subject = "/".join(map(str, method))
        missing, new = of[of["_merge"] == "left_only"], of[of["_merge"] == "right_only"]
        if len(missing):
            message = f"{len(missing)} of {len(of) - len(new)} rows missing: {_in_common(missing)}"
            yield Finding("rows", "failed", subject, message, severity=len(missing))
        if len(new):
            message = f"{len(new)} of {len(of) - len(missing)} rows new: {_in_common(new)}"
            yield Finding("rows", "new", subject, message, severity=len(new))
        if missing.empty and new.empty:
            yield Finding("rows", "passed", subject, f"{len(of)} rows")


def _keys(rows: pd.DataFrame, unequal: set[tuple[str, ...]]) -> pd.DataFrame:
    runs = rows[list(RUN)].astype(str).itertuples(index=False, name=None)
    keep = [run not in unequal for run in runs]
    return rows.loc[keep, list(KEY)].fillna("").astype(str)


def _in_common(rows: pd.DataFrame) -> str:
    """What the rows have in common, as far as it is one value of each column; else how many values there are."""
    parts = []
    for column in ("dataset", "seed", "image", "degradation", "protocol", "metric"):
        values = sorted(set(rows[column]) - {""})
        if len(values) == 1:
            parts.append(f"{column} {values[0]}" if column in ("seed", "degradation") else values[0])
        elif values:
            parts.append(f"{len(values)} {column}s")
    return ", ".join(parts)
