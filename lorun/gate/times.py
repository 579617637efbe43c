"""Times as ratios within one run: to those of a method measured beside, since machines and their moods differ."""

from collections.abc import Iterator

import pandas as pd

from lorun.gate.findings import Finding, Verdict
from lorun.gate.limits import Limits

_COLUMNS = {"reconstruction latency": "median_ms", "training": "seconds"}

Ratios = dict[tuple[str, str, str, str], float]
"""By task, setting, method and what was measured."""


def compare_times(reference: pd.DataFrame | None, candidate: pd.DataFrame | None, limits: Limits) -> Iterator[Finding]:
    """Compare two tables of times, each by ratios to the times of `limits.time_base` in the same table."""
    if reference is None or candidate is None:
        which = "the reference" if reference is None else "the candidate"
        yield Finding("time", "noted" if limits.time is None else "unknown", "timing.csv", f"{which} has no such table")
        return
    before, after = _ratios(reference, limits.time_base), _ratios(candidate, limits.time_base)
    if limits.time is not None and not before.keys() & after.keys():
        message = f"no time on both sides beside one of {limits.time_base!r} (--time-base)"
        yield Finding("time", "unknown", "timing.csv", message)
    for key in sorted(before.keys() & after.keys()):
        task, setting, method, what = key
        was, now = before[key], after[key]
        change = now / was - 1
        message = f"{what}, ratio to {limits.time_base}: {was:.3f} -> {now:.3f} ({100 * change:+.0f} %)"
        slower = limits.time is not None and 100 * change > limits.time
        verdict: Verdict = "failed" if slower else "noted" if limits.time is None else "passed"
        subject = f"{task}/{setting}/{method}"
        yield Finding("time", verdict, subject, message, was, now, change)


def _ratios(timing: pd.DataFrame, base: str) -> Ratios:
    """Medians over seeds, divided by the base's; those of the base itself and of what has none beside are left out."""
    found: Ratios = {}
    for what, column in _COLUMNS.items():
        if column not in timing.columns:
            continue
        of = timing[timing.what == what].dropna(subset=column)
        medians = of.groupby(["task", "setting", "method"], sort=True)[column].median()
        values = {tuple(map(str, place)): float(value) for place, value in zip(medians.index, medians, strict=True)}
        for (task, setting, method), value in values.items():
            beside = values.get((task, setting, base))
            if method != base and beside and value:
                found[(task, setting, method, what)] = value / beside
    return found
