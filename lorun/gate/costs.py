"""What a method costs: parameters, bytes and FLOPs, compared exactly, and times, compared as ratios."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from lorun.gate.findings import Finding, Limits, Verdict
from lorun.results.store import METHOD, ResultSet, records

SIZES = ("stages", "m", "step_batch", "step_patch", "step_precision", "step_recompute", "image")
"""What counts depend on; they are compared only where these agree."""

COUNTS = {
    "parameters": {
        f"parameters_{kind}": f"parameters, {kind.replace('_', ' ')}"
        for kind in ("operator", "base", "adapters", "step_sizes", "other", "trainable", "network", "total")
    },
    "bytes": {  # peaks
        "step_total": "training step",
        "kept_total": "training step that keeps all activations",
        "recomputed_total": "training step that recomputes stages",
        "inference_total": "reconstruction",
    },
    "flops": {"flops": "FLOPs of a reconstruction"},
}
"""The columns of each check, with their titles."""

BASE = "block_k"
"""The method that times are relative to."""


def compare_counts(reference: ResultSet, candidate: ResultSet, limits: Limits) -> Iterator[Finding]:
    """Compare accounts. Parameters fail by any change, bytes and FLOPs by a rise."""
    if reference.accounting.empty:
        yield Finding("bytes", "unknown", "accounting.csv", "missing in the reference: no counts are compared")
        return
    before, after = (
        {"/".join(line[name] for name in METHOD): line for line in records(results.accounting)}
        for results in (reference, candidate)
    )
    for method, was in sorted(before.items()):
        now = after.get(method)
        if now is None:
            yield Finding("bytes", "failed", method, "its account is missing")
        elif other := [name for name in SIZES if name in was and was[name] != now.get(name)]:
            message = f"counted for another `{other[0]}`: {was[other[0]]} -> {now.get(other[0])}"
            yield Finding("bytes", "failed", method, message)
        else:
            yield from _compare(method, was, now, limits)
    if new := sorted(after.keys() - before.keys()):
        yield Finding("bytes", "new", "accounting.csv", f"accounts of {', '.join(new)}")


def _compare(subject: str, before: dict[str, Any], after: dict[str, Any], limits: Limits) -> Iterator[Finding]:
    for check, columns in COUNTS.items():
        shared = [name for name in columns if name in before and (before[name], after.get(name)) != (None, None)]
        found = [_count(check, subject, name, before, after, limits) for name in shared]
        if check == "parameters":  # one finding where all is well
            found = [one for one in found if one.verdict in ("failed", "unknown")]
            found = found or [Finding(check, "passed", subject, "as in the reference")]
        yield from found


def _count(
    check: str, subject: str, name: str, before: dict[str, Any], after: dict[str, Any], limits: Limits
) -> Finding:
    title, was, now = COUNTS[check][name], before[name], after.get(name)
    if was is None or now is None:
        verdict: Verdict
        verdict, side = ("unknown", "reference") if was is None else ("failed", "candidate")
        return Finding(check, verdict, subject, f"{title}: not counted in the {side}", was, now)
    change = (now - was) / was if was else float(now > 0)
    limit = was * getattr(limits, check) / 100
    message = f"{title}: {was:,.0f} -> {now:,.0f} ({now - was:+,.0f}, {100 * change:+.2g} %)"
    if now > was + limit or (check == "parameters" and now < was - limit):
        return Finding(check, "failed", subject, message, was, now, abs(change))
    verdict = "improved" if now < was else "passed" if now == was else "noted"
    return Finding(check, verdict, subject, message, was, now, max(-change, 0.0))


def compare_times(reference: ResultSet, candidate: ResultSet, limits: Limits) -> Iterator[Finding]:
    """Compare times, each relative to that of `BASE` in the same table: machines differ."""
    sides = [_ratios(results.timing) for results in (reference, candidate)]
    shared = pd.concat(sides, axis=1, join="inner")
    if shared.empty:
        message = f"no times on both sides that are relative to those of {BASE}"
        yield Finding("time", "noted" if limits.time is None else "unknown", "timing.csv", message)
    for (*method, what), was, now in shared.itertuples(name=None):
        percent = 100 * (now / was - 1)
        verdict: Verdict = "noted" if limits.time is None else "failed" if percent > limits.time else "passed"
        message = f"{what} relative to {BASE}: {was:.3f} -> {now:.3f} ({percent:+.0f} %)"
        yield Finding("time", verdict, "/".join(method), message, was, now, percent / 100)


def _ratios(timing: pd.DataFrame) -> pd.Series:
    """By method and kind of time: the median over seeds, divided by that of the base method."""
    times = timing.assign(time=timing.median_ms.fillna(timing.seconds))
    medians = times[times.time > 0].groupby([*METHOD, "what"]).time.median()
    of_base = medians.index.get_level_values("method") == BASE
    return (medians[~of_base] / medians[of_base].droplevel("method")).dropna()
