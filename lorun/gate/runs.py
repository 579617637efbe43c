"""Which runs and rows are missing or new, which runs ended worse, and which trained parameters did not move."""

import re
from collections.abc import Iterator

import pandas as pd

from lorun.gate.findings import Finding, Verdict
from lorun.results.store import METHOD, RUN, SCORE, ResultSet

_ONE_SIDED: tuple[tuple[str, Verdict, str], ...] = (("left_only", "failed", "missing"), ("right_only", "new", "new"))
_ADAPTER = re.compile(r"\blora_[AB]\.(stage_\d+)\b")
_DENOISER = re.compile(r"\bdenoisers\.(\d+)\.")


def compare_statuses(reference: ResultSet, candidate: ResultSet) -> Iterator[Finding]:
    """Compare how runs ended; those of a method that ended alike share a finding."""
    sides = [results.runs.set_index(list(RUN)).status for results in (reference, candidate)]
    both = pd.concat(sides, axis=1, keys=["before", "after"], sort=True).astype(object)
    both = both.where(both.notna(), None)
    ended: dict[tuple[str, str | None, str | None], list[str]] = {}
    for (*method, seed), before, after in both.itertuples(name=None):
        if not before == after == "completed":
            ended.setdefault(("/".join(method), before, after), []).append(str(seed))
    for (method, before, after), seeds in ended.items():
        subject = f"{method} seed {', '.join(seeds)}"
        if after is None:
            yield Finding("rows", "failed", subject, f"missing; {before} in the reference")
        elif before is None:
            yield Finding("rows", "new", subject, f"new; {after}")
        elif after == "completed":
            yield Finding("status", "improved", subject, f"completed; {before} in the reference")
        else:
            verdict: Verdict = "failed" if before == "completed" else "noted"
            yield Finding("status", verdict, subject, f"{after}; {before} in the reference")


def compare_rows(reference: ResultSet, candidate: ResultSet) -> Iterator[Finding]:
    """Compare the rows of the runs that completed on both sides."""
    both = _completed(reference).merge(_completed(candidate))
    before, after = (results.rows.merge(both)[list(SCORE)] for results in (reference, candidate))
    found = before.merge(after, how="outer", indicator="side")
    for method, group in found.groupby(list(METHOD)):
        subject = "/".join(map(str, method))
        for side, verdict, word in _ONE_SIDED:
            rows = group[group.side == side]
            if len(rows):
                message = f"{len(rows)} of {group.side.isin(['both', side]).sum()} rows {word}: {_shared_values(rows)}"
                yield Finding("rows", verdict, subject, message, severity=len(rows))
        if (group.side == "both").all():
            yield Finding("rows", "passed", subject, f"{len(group)} rows")


def _completed(results: ResultSet) -> pd.DataFrame:
    return results.runs.loc[results.runs.status == "completed", list(RUN)]


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
    """Find dead stages: trained parameters that kept their initial values in the candidate, but not in the reference.

    If the reference does not record it, an adapter that did not move still fails: its stage is the bare base.
    """
    before, after = _unmoved(reference), _unmoved(candidate)
    unknown = 0
    for run in sorted(before.keys() & after.keys()):
        was, now = before[run], after[run]
        subject = f"{'/'.join(run[:3])} seed {run[3]}"
        if now is None and was is None:
            unknown += 1
        elif now is None:
            yield Finding("stages", "failed", subject, "does not record unmoved parameters; the reference does")
        elif was is not None:
            yield _dead(subject, now - was, "they moved in the reference", "failed")
        else:
            adapters = {name for name in now if _ADAPTER.search(name)}
            verdict: Verdict = "failed" if adapters else "unknown"
            yield _dead(subject, adapters or now, "the reference does not record them", verdict)
    if unknown:
        message = f"neither side records the unmoved parameters of {unknown} trainings: a dead stage would not be seen"
        yield Finding("stages", "unknown", "trainings.csv", message)


def _dead(subject: str, names: set[str], reference: str, verdict: Verdict) -> Finding:
    if not names:
        return Finding("stages", "passed", subject, "every trained parameter moved")
    places = sorted({_place(name) for name in names})
    listed = ", ".join(places[:6]) + (f" and {len(places) - 6} more" if len(places) > 6 else "")
    message = f"{len(names)} trained parameters did not move ({reference}): {listed}"
    return Finding("stages", verdict, subject, message, severity=len(names))


def _place(name: str) -> str:
    """The stage that a parameter belongs to, counted from 1, or its name if it belongs to none."""
    if adapter := _ADAPTER.search(name):
        return f"adapter of {adapter[1]}"
    if denoiser := _DENOISER.search(name):
        return f"denoiser of stage_{int(denoiser[1]) + 1}"
    return name


def _unmoved(results: ResultSet) -> dict[tuple[str, str, str, int], set[str] | None]:
    """The parameters that each completed training left at their initial values; None if not recorded."""
    runs, trainings = results.runs, results.trainings
    done = runs[(runs.status == "completed") & ~(runs.steps == 0).fillna(False)][list(RUN)]
    found = done.merge(trainings[[*RUN, "unmoved", "names"]], how="left", on=list(RUN))
    return {
        (task, setting, method, seed): None if pd.isna(unmoved) else set() if pd.isna(names) else set(names.split())
        for task, setting, method, seed, unmoved, names in found.itertuples(index=False, name=None)
    }
