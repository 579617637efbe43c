"""Parameters, counted bytes and FLOPs: the same on every machine, so compared exactly."""

from collections.abc import Iterator

import pandas as pd

from lorun.gate.findings import Finding, Verdict
from lorun.gate.limits import Limits
from lorun.gate.sources import METHOD

CONDITIONS = ("stages", "m", "step_batch", "step_patch", "step_precision", "step_recompute", "image")
"""What a count is of: where these differ, the counts cannot be compared."""

TOTALS = {
    "step_total": "training step",
    "kept_total": "training step that keeps all activations",
    "recomputed_total": "training step that recomputes stages",
    "inference_total": "reconstruction",
}
"""Peaks, bytes; each has a breakdown by kind under the same prefix."""

_KINDS = ("parameters", "gradients", "optimiser", "activations", "other")
_PARAMETERS = tuple(
    f"parameters_{kind}"
    for kind in ("operator", "base", "adapters", "step_sizes", "other", "trainable", "network", "total")
)


def compare_counts(reference: pd.DataFrame | None, candidate: pd.DataFrame | None, limits: Limits) -> Iterator[Finding]:
    """Compare two tables of accounts, method by method. Parameters fail either way, bytes and FLOPs by a rise."""
    if reference is None:
        yield Finding(
            "bytes", "unknown", "accounting.csv", "the reference has no such table: nothing counted is compared"
        )
        return
    if candidate is None:
        yield Finding("bytes", "failed", "accounting.csv", "missing; the reference has it")
        return
    before, after = _by_method(reference), _by_method(candidate)
    for method in sorted(before):
        subject = "/".join(method)
        if method not in after:
            yield Finding("bytes", "failed", subject, "its account is missing")
        else:
            yield from _compare(subject, before[method], after[method], limits)
    new = ["/".join(method) for method in sorted(after) if method not in before]
    if new:
        yield Finding("bytes", "new", "accounting.csv", f"accounts of {', '.join(new)}")
    unheard = [name for name in (*_PARAMETERS, *TOTALS, "flops") if name in candidate and name not in reference]
    if unheard:
        yield Finding(
            "bytes", "new", "accounting.csv", f"counts that the reference has no column of: {', '.join(unheard)}"
        )


def _by_method(accounts: pd.DataFrame) -> dict[tuple[str, ...], pd.Series]:
    return {tuple(str(row[name]) for name in METHOD): row for _, row in accounts.iterrows()}


def _compare(subject: str, before: pd.Series, after: pd.Series, limits: Limits) -> Iterator[Finding]:
    for name in CONDITIONS:
        if name in before and not _same(before[name], after.get(name)):
            message = f"counted at another `{name}`: {_shown(before[name])} -> {_shown(after.get(name))}"
            yield Finding("bytes", "failed", subject, message)
            return
    yield from _parameters(subject, before, after, limits)
    yield from _rises(subject, "bytes", TOTALS, before, after, limits.bytes)
    yield from _rises(subject, "flops", {"flops": "FLOPs of a reconstruction"}, before, after, limits.flops)


def _parameters(subject: str, before: pd.Series, after: pd.Series, limits: Limits) -> Iterator[Finding]:
    sound = True
    for name in _PARAMETERS:
        was, now = _number(before.get(name)), _number(after.get(name))
        kind = name.removeprefix("parameters_").replace("_", " ")
        if name not in before or (was is None and now is None):
            continue
        if was is None or now is None:
            sound = False
            verdict: Verdict = "unknown" if was is None else "failed"
            yield Finding("parameters", verdict, subject, f"{kind}: not counted in the {_lacking(was)}", was, now)
        elif abs(now - was) > limits.parameters / 100 * was:
            sound = False
            change = (now - was) / was if was else float("inf")
            message = f"parameters, {kind}: {was:,.0f} -> {now:,.0f} ({now - was:+,.0f})"
            yield Finding("parameters", "failed", subject, message, was, now, abs(change))
    if sound:
        yield Finding("parameters", "passed", subject, "as in the reference")


def _rises(
    subject: str, check: str, names: dict[str, str], before: pd.Series, after: pd.Series, percent: float
) -> Iterator[Finding]:
    for name, title in names.items():
        was, now = _number(before.get(name)), _number(after.get(name))
        if name not in before or (was is None and now is None):
            continue
        if was is None or now is None:
            yield Finding(
                check,
                "unknown" if was is None else "failed",
                subject,
                f"{title}: not counted in the {_lacking(was)}",
                was,
                now,
            )
            continue
        change = (now - was) / was if was else float(now > 0)
        message = f"{title}: {was:,.0f} -> {now:,.0f} ({100 * change:+.2g} %{_where(name, before, after)})"
        if now > was * (1 + percent / 100):
            yield Finding(check, "failed", subject, message, was, now, change)
        elif now < was:
            yield Finding(check, "improved", subject, message, was, now, -change)
        else:
            yield Finding(check, "passed" if now == was else "noted", subject, message, was, now)


def _where(total: str, before: pd.Series, after: pd.Series) -> str:
    """Which kinds of bytes a change is made of."""
    parts = []
    for kind in _KINDS:
        name = total.replace("_total", f"_{kind}")
        was, now = _number(before.get(name)), _number(after.get(name))
        if name != total and was is not None and now is not None and was != now:
            parts.append(f"{kind} {now - was:+,.0f}")
    return "; " + ", ".join(parts) if parts else ""


def _same(was: object, now: object) -> bool:
    one, other = _number(was), _number(now)
    if one is not None and other is not None:
        return one == other
    return _shown(was) == _shown(now)


def _number(value: object) -> float | None:
    if value is None or pd.isna(value):  # type: ignore[call-overload]
        return None
    try:
        return float(str(value))
    except ValueError:
        return None


def _lacking(reference: float | None) -> str:
    return "reference" if reference is None else "candidate"


def _shown(value: object) -> str:
    return "none" if value is None or pd.isna(value) else str(value)  # type: ignore[call-overload]
