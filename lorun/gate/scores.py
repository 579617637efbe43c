"""Whether scores of trained methods fell: a method at a time, and all methods of a task together."""

from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

import numpy as np
import pandas as pd

from lorun.evaluation.metrics import METRICS, Metric
from lorun.gate.findings import Finding
from lorun.gate.limits import Limits
from lorun.gate.protocols import same_weights
from lorun.gate.statistics import (
    Losses,
    Test,
    holm,
    method_test,
    pooled_variance,
    task_test_paired,
    task_test_unpaired,
)

Level = Literal["task", "method"]

_RUN = ["task", "dataset", "setting", "method", "seed", "metric"]


@dataclass(frozen=True)
class RunScore:
    """One score of one training on one dataset: means over images, degradations and protocols, of both sides."""

    task: str
    dataset: str
    setting: str
    method: str
    seed: int
    metric: str
    before: float
    after: float

    @property
    def loss(self) -> float:
        """By how much it got worse."""
        # In 9 digits: two means of the same numbers may differ in the last bit.
        return round((self.before - self.after) * _sign(METRICS[self.metric]), 9)


def _sign(metric: Metric) -> int:
    return 1 if metric.better == "higher" else -1


@dataclass(frozen=True)
class Compared:
    """The tests of one score of one subject.

    level    a method's, or that of all methods of a task
    subject  for people
    metric   of `METRICS`
    before   mean of the reference; after: of the candidate
    tests    of a fall, by how the noise is estimated; none where nothing moved, or one seed leaves nothing to estimate
             it from
    gains    of a rise, likewise
    """

    level: Level
    subject: str
    metric: Metric
    before: float
    after: float
    tests: dict[str, Test]
    gains: dict[str, Test]

    @property
    def loss(self) -> float:
        """By how much the score got worse."""
        return (self.before - self.after) * _sign(self.metric)


def run_scores(pairs: pd.DataFrame, limits: Limits) -> list[RunScore]:
    """Of each training in `pairs` its scores; without those of the same weights, where what moves is no training."""
    of = pairs[pairs.trained & pairs.metric.isin(list(METRICS))]
    if of.empty:
        return []
    same = same_weights(of) if not limits.fresh_seeds else False
    means = (
        of.assign(same=same)
        .groupby(_RUN, sort=True)
        .agg(before=("value_before", "mean"), after=("value_after", "mean"), same=("same", "all"))
    )
    table = means[~means["same"]].drop(columns="same").reset_index()
    return [RunScore(*row) for row in table.itertuples(index=False, name=None)]


def compare_scores(scores: list[RunScore], limits: Limits, prefix: str = "") -> list[Compared]:
    """Every test of these scores; subjects begin with `prefix`."""
    found: list[Compared] = []
    for (task, dataset, setting, metric), of in _grouped(scores, "task", "dataset", "setting", "metric").items():
        found += _methods(of, f"{prefix}{task}/{setting}", dataset, METRICS[metric], limits)
    for (task, metric), of in _grouped(scores, "task", "metric").items():
        found += _task(of, f"{prefix}{task}", METRICS[metric], limits)
    return found


def _grouped(scores: list[RunScore], *by: str) -> dict[tuple[str, ...], list[RunScore]]:
    found: dict[tuple[str, ...], list[RunScore]] = {}
    for one in sorted(scores, key=attrgetter(*by, "seed")):
        found.setdefault(tuple(getattr(one, name) for name in by), []).append(one)
    return found


def judge_scores(compared: list[Compared], limits: Limits) -> Iterator[Finding]:
    """Correct the tests for their number, over everything that is compared, and say what fell.

    Half of `limits.alpha` goes to the tests of tasks, half to those of methods.
    """
    levels: tuple[Level, ...] = ("task", "method")
    for level in levels:
        of = [one for one in compared if one.level == level]
        losses = _adjusted([one.tests for one in of])
        gains = _adjusted([one.gains for one in of])
        for one, fell, rose in zip(of, losses, gains, strict=True):
            yield _finding(one, fell, rose, limits)


def _adjusted(tests: list[dict[str, Test]]) -> list[float | None]:
    """The smallest probability of each, corrected for the number of all, for two levels; None where there is none."""
    flat = [(index, test.p) for index, of in enumerate(tests) for test in of.values()]
    found: list[float | None] = [None] * len(tests)
    for (index, _), p in zip(flat, holm([p for _, p in flat]), strict=True):
        p = min(1.0, 2 * p)
        found[index] = p if found[index] is None else min(p, found[index] or 0.0)
    return found


def _finding(one: Compared, fell: float | None, rose: float | None, limits: Limits) -> Finding:
    unit = f" {one.metric.unit}" if one.metric.unit else ""
    digits = one.metric.digits + 2
    change = f"{one.metric.title} {one.before:.{digits}f} -> {one.after:.{digits}f}{unit}"
    signed = f"{one.after - one.before:+.{digits}f}"

    def made(verdict: Literal["failed", "improved", "noted", "passed"], message: str) -> Finding:
        severity = one.loss / (limits.tolerance[one.metric.name] or 1.0)
        return Finding("scores", verdict, one.subject, message, one.before, one.after, severity)

    if one.before == one.after:
        return made("passed", f"{one.metric.title} {one.before:.{digits}f}{unit}, as in the reference")
    if fell is None or rose is None:
        allowed = limits.tolerance[one.metric.name]
        rule = f"one seed gives no spread; a fall by {allowed:g} is allowed"
        return made("failed" if one.loss > allowed else "noted", f"{change} ({signed}; {rule})")
    if fell <= limits.alpha:
        best = min(one.tests.items(), key=lambda item: item[1].p)
        name, test = best
        error = f"{test.error:.{digits}f}"
        return made("failed", f"{change} ({signed}, standard error {error}, {name}, adjusted p = {fell:.2g})")
    if rose <= limits.alpha:
        return made("improved", f"{change} ({signed}, adjusted p = {rose:.2g})")
    return made("noted", f"{change} ({signed}, within the noise)")


def _methods(scores: list[RunScore], where: str, dataset: str, metric: Metric, limits: Limits) -> Iterator[Compared]:
    margin = limits.equality(metric.name)
    by_method = {method: of for (method,), of in _grouped(scores, "method").items()}
    reference = {method: np.array([one.before for one in of]) for method, of in by_method.items()}
    losses = {method: np.array([one.loss for one in of]) for method, of in by_method.items()}
    moved = {method: of for method, of in losses.items() if of.any()}
    for method, of in by_method.items():
        subject = f"{where}/{method} on {dataset}"
        before, after = _means(of)
        if method not in moved:
            yield Compared("method", subject, metric, before, before, {}, {})
            continue
        down, up = (
            _known(
                paired=None if limits.fresh_seeds else method_test(values, method, values, margin),
                unpaired=method_test(values, method, reference, margin, factor=2.0),
            )
            for values in (moved, _negated(moved))
        )
        yield Compared("method", subject, metric, before, after, down, up)


def _task(scores: list[RunScore], task: str, metric: Metric, limits: Limits) -> Iterator[Compared]:
    """All methods of a task that moved; a training that is scored on several datasets counts once."""
    margin = limits.equality(metric.name)
    reference: dict[str, np.ndarray] = {}
    losses: dict[str, np.ndarray] = {}
    for place, of in _grouped(scores, "setting", "method").items():
        runs = _grouped(of, "seed").values()
        reference["/".join(place)] = np.array([np.mean([one.before for one in run]) for run in runs])
        losses["/".join(place)] = np.array([np.mean([one.loss for one in run]) for run in runs])
    moved = {name: of for name, of in losses.items() if of.any()}
    if len(moved) < 2 or not pooled_variance(reference)[1]:
        return
    before, after = _means([one for one in scores if f"{one.setting}/{one.method}" in moved])
    down, up = (
        _known(
            paired=None if limits.fresh_seeds else task_test_paired(values, margin),
            unpaired=task_test_unpaired(values, reference, margin),
        )
        for values in (moved, _negated(moved))
    )
    yield Compared("task", f"{task}, all {len(moved)} methods that moved", metric, before, after, down, up)


def _means(scores: list[RunScore]) -> tuple[float, float]:
    return float(np.mean([one.before for one in scores])), float(np.mean([one.after for one in scores]))


def _known(**tests: Test | None) -> dict[str, Test]:
    return {name: test for name, test in tests.items() if test is not None}


def _negated(losses: Losses) -> dict[str, np.ndarray]:
    return {name: -of for name, of in losses.items()}
