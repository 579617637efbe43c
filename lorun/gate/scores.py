"""Whether the scores of trained methods fell: each method, and all methods of a task together."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from lorun.evaluation.metrics import METRICS, Metric
from lorun.gate.findings import TOLERANCE, Finding, Limits, Verdict, margin
from lorun.gate.statistics import Test, Values, holm, method_test, task_test
from lorun.results.store import grouped

LEVELS = ("task", "method")
"""Half of `Limits.alpha` goes to each."""

Tests = dict[str, Test]
"""The tests of one score, by how the noise is estimated: paired, unpaired."""


class Comparison(NamedTuple):
    """One score of a method or of all methods of a task (`level`): its means, and its tests, if there are any."""

    level: str
    subject: str
    metric: Metric
    before: float
    after: float
    tests: Tests


def run_scores(pairs: pd.DataFrame) -> pd.DataFrame:
    """Scores of each training with new weights: means over images, degradations and protocols, and the loss.

    Takes what `lorun.gate.pairs.pair` returns. Trainings with the same weights on both sides are left out.
    """
    key = ["task", "dataset", "setting", "method", "seed", "metric"]
    means = pairs[pairs.trained].groupby(key, as_index=False)
    found = means.agg(before=("value_before", "mean"), after=("value_after", "mean"), same=("same", "all"))
    found = found[~found.same.astype(bool)].drop(columns="same")
    sign = found.metric.map({name: 1 if metric.better == "higher" else -1 for name, metric in METRICS.items()})
    # Rounded, since two means of the same numbers may differ in the last bit.
    loss = ((found.before - found.after) * sign.astype(float)).round(9)
    return found.assign(loss=loss, after=found.after.where(loss != 0, found.before))


def compare_scores(scores: pd.DataFrame, prefix: str = "") -> list[Comparison]:
    """Test each method on each dataset, and each task, where a run scored on several datasets counts once.

    Takes what `run_scores` returns; subjects start with `prefix`. Without tests: a single seed, scores that did not
    move, and metrics without a default tolerance.
    """
    found = []
    for (task, dataset, setting, metric), group in grouped(scores, ("task", "dataset", "setting", "metric")).items():
        reference, moved = _values(group, "before"), _moved(group)
        for (method,), runs in grouped(group, ["method"]).items():
            subject = f"{prefix}{task}/{setting}/{method} on {dataset}"
            test = partial(method_test, method=method, margin=margin(metric))
            tests = _tests(test, moved, reference) if method in moved and metric in TOLERANCE else {}
            found.append(Comparison("method", subject, METRICS[metric], runs.before.mean(), runs.after.mean(), tests))
    for (task, metric), group in grouped(scores[scores.metric.isin(list(TOLERANCE))], ("task", "metric")).items():
        named = group.assign(method=group.setting + "/" + group.method)
        runs = named.groupby(["method", "seed"], as_index=False)[["before", "after", "loss"]].mean()
        reference, moved = _values(runs, "before"), _moved(runs)
        if tests := _tests(partial(task_test, margin=margin(metric)), moved, reference):
            subject = f"{prefix}{task}, all {len(moved)} methods that moved"
            runs = runs[runs.method.isin(list(moved))]
            found.append(Comparison("task", subject, METRICS[metric], runs.before.mean(), runs.after.mean(), tests))
    return found


def _values(runs: pd.DataFrame, column: str) -> dict[str, np.ndarray]:
    """By method, the values of all seeds."""
    return {name: group[column].to_numpy() for (name,), group in grouped(runs, ["method"]).items()}


def _moved(runs: pd.DataFrame) -> dict[str, np.ndarray]:
    """The losses of the methods whose scores moved."""
    return {name: losses for name, losses in _values(runs, "loss").items() if losses.any()}


def _tests(test: Callable[..., Test | None], losses: Values, reference: Values) -> Tests:
    tests = {"paired": test(losses), "unpaired": test(losses, reference=reference)}
    return {name: found for name, found in tests.items() if found is not None}


def judge_scores(comparisons: list[Comparison], limits: Limits) -> Iterator[Finding]:
    """Findings of all comparisons, with the tests corrected for their number."""
    for level in LEVELS:
        chosen = [one for one in comparisons if one.level == level]
        falls, rises = (_adjusted([one.tests for one in chosen], name) for name in ("fall", "rise"))
        for one, fall, rise in zip(chosen, falls, rises, strict=True):
            yield _finding(one, fall, rise, limits)


def _adjusted(tests: list[Tests], direction: str) -> list[float]:
    """The smallest probability of each comparison, corrected for all tests and for the levels; nan without tests."""
    adjusted = iter(holm([getattr(test, direction) for group in tests for test in group.values()]))
    return [min((len(LEVELS) * next(adjusted) for _ in group), default=float("nan")) for group in tests]


def _finding(one: Comparison, fall: float, rise: float, limits: Limits) -> Finding:
    metric, tolerance = one.metric, TOLERANCE.get(one.metric.name)
    digits, unit = metric.digits + 2, f" {metric.unit}" if metric.unit else ""
    loss = (one.before - one.after) * (1 if metric.better == "higher" else -1)
    before, after = (f"{value:.{digits}f}" for value in (one.before, one.after))
    verdict: Verdict = "noted"
    if one.before == one.after:
        message = f"{metric.title} {before}{unit}, as in the reference"
        return Finding("scores", "passed", one.subject, message, one.before, one.after)
    if not one.tests and tolerance is not None:
        verdict = "failed" if loss > tolerance else "improved" if -loss > tolerance else "noted"
        reason = f"no test: may fall by {tolerance:g}"
    elif not one.tests:
        verdict, reason = "unknown", f"no test of {metric.title}"
    elif fall <= limits.alpha:
        name, test = min(one.tests.items(), key=lambda item: item[1].fall)
        verdict, reason = "failed", f"standard error {test.error:.{digits}f}, {name} test, adjusted p = {fall:.2g}"
    elif rise <= limits.alpha:
        verdict, reason = "improved", f"adjusted p = {rise:.2g}"
    else:
        reason = "within the noise"
    message = f"{metric.title} {before} -> {after}{unit} ({one.after - one.before:+.{digits}f}, {reason})"
    return Finding("scores", verdict, one.subject, message, one.before, one.after, loss / (tolerance or 1.0))
