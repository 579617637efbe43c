"""Which runs and rows are missing or new, which runs ended worse, and which trained parameters did not move."""

import re
from collections.abc import Iterator

import pandas as pd

from lorun.gate.findings import Finding, Verdict
from lorun.results.store import METHOD, RUN, SCORE, ResultSet, records

_ADAPTER = re.compile(r"\blora_[AB]\.(stage_\d+)\b")


def compare_statuses(reference: ResultSet, candidate: ResultSet) -> Iterator[Finding]:
    """Compare how runs ended; those of a method that ended alike share a finding."""
    was, now = (results.runs[[*RUN, "status"]] for results in (reference, candidate))
    both = was.merge(now, how="outer", on=list(RUN), suffixes=("_before", "_after"))
    ends = ["status_before", "status_after"]
    both = both[(both[ends] != "completed").any(axis=1)].fillna(dict.fromkeys(ends, ""))
    for (task, setting, method, before, after), group in both.groupby([*METHOD, *ends]):
        subject = f"{task}/{setting}/{method} seed {', '.join(str(seed) for seed in sorted(group.seed))}"
        if not after:
            yield Finding("rows", "failed", subject, f"missing; {before} in the reference")
        elif not before:
            yield Finding("rows", "new", subject, f"new; {after}")
        else:
            verdict: Verdict = "failed" if before == "completed" else "improved" if after == "completed" else "noted"
            yield Finding("status", verdict, subject, f"{after}; {before} in the reference")


def compare_rows(reference: ResultSet, candidate: ResultSet) -> Iterator[Finding]:
    """Compare the rows of the runs that completed on both sides."""
    both = reference.runs.merge(candidate.runs, on=[*RUN, "status"])
    completed = both.loc[both.status == "completed", list(RUN)]
    before, after = (results.rows.merge(completed)[list(SCORE)] for results in (reference, candidate))
    for method, group in before.merge(after, how="outer", indicator="side").groupby(list(METHOD)):
        subject = "/".join(map(str, method))
        missing, new = group[group.side == "left_only"], group[group.side == "right_only"]
        if len(missing):
            message = f"{len(missing)} of {len(group) - len(new)} rows missing: {_shared_values(missing)}"
            yield Finding("rows", "failed", subject, message, severity=len(missing))
        if len(new):
            message = f"{len(new)} of {len(group) - len(missing)} rows new: {_shared_values(new)}"
            yield Finding("rows", "new", subject, message, severity=len(new))
        if missing.empty and new.empty:
            yield Finding("rows", "passed", subject, f"{len(group)} rows")


def _shared_values(rows: pd.DataFrame) -> str:
    """The value of each column where all rows have the same, else how many values there are."""
    parts = []
    for column in ("dataset", "seed", "image", "degradation", "protocol", "metric"):
        values = sorted(rows[column].dropna().astype(str).unique())
        if len(values) == 1:
            parts.append(f"{column} {values[0]}" if column in ("seed", "degradation") else values[0])
        elif values:
            parts.append(f"{len(values)} {column}s")
    return ", ".join(parts)


def compare_stages(reference: ResultSet, candidate: ResultSet) -> Iterator[Finding]:
    """Find dead stages: trained parameters that kept their initial values in the candidate, but not the reference."""
    both = _unmoved(reference).merge(_unmoved(candidate), on=list(RUN), suffixes=("_before", "_after"))
    for run in records(both):
        subject = "{task}/{setting}/{method} seed {seed}".format(**run)
        dead = set((run["names_after"] or "").split()) - set((run["names_before"] or "").split())
        if run["unmoved_after"] is None:
            verdict: Verdict = "unknown" if run["unmoved_before"] is None else "failed"
            yield Finding("stages", verdict, subject, "does not record which parameters moved")
        elif not dead:
            yield Finding("stages", "passed", subject, "every trained parameter moved")
        else:
            adapters = {f"adapter of {match[1]}" for match in map(_ADAPTER.search, dead) if match}
            message = f"{len(dead)} trained parameters did not move: {', '.join(sorted(adapters or dead))}"
            yield Finding("stages", "failed", subject, message, severity=len(dead))


def _unmoved(results: ResultSet) -> pd.DataFrame:
    """Number and names of the parameters that each completed training left as they were; null if not recorded."""
    runs = results.runs
    done = runs[(runs.status == "completed") & ~(runs.steps == 0).fillna(False)][list(RUN)]
    return done.merge(results.trainings[[*RUN, "unmoved", "names"]], how="left", on=list(RUN))
