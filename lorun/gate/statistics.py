"""t-tests of whether scores fell, with the noise of trainings estimated from a few seeds, pooled over methods.

The model: the loss of method i and seed s, averaged over images and degradations, is *d_is = delta_i + e_is* with
independent normal e_is. A paired test estimates the variance of e from d_is, an unpaired one from the spread over the
seeds of the reference, as if the candidate had new seeds: Var e = 2 sigma^2. docs/gate.md has the reasons.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr

Values = Mapping[str, np.ndarray]
"""By method, a value per seed."""


class Test(NamedTuple):
    """Two one-sided t-tests: whether a score fell, and whether it rose, by more than the margin.

    error       standard error of the loss
    fall, rise  probability of a t at least this large if the score fell, or rose, by the margin
    """

    error: float
    fall: float
    rise: float


def method_test(losses: Values, method: str, margin: float, reference: Values | None = None) -> Test | None:
    """Test one method, with its own variance if that exceeds the pooled one: unpaired if `reference` is given.

    None without degrees of freedom.
    """
    noise, factor = (losses, 1) if reference is None else (reference, 2)
    pooled, degrees = pooled_variance(noise)
    if not degrees:
        return None
    values = losses[method]
    own = noise[method].var(ddof=1) if len(noise[method]) > 1 else 0.0
    return _t_test(values, factor * max(pooled, own) / len(values), degrees, margin)


def task_test(losses: Values, margin: float, reference: Values | None = None) -> Test | None:
    """Test the mean over methods and seeds: unpaired if `reference` is given.

    Its variance is at least that which the means over methods show from seed to seed, so that an effect of a seed on
    all methods counts once. None for fewer than two methods, or without degrees of freedom.
    """
    noise, factor = (losses, 1) if reference is None else (reference, 2)
    variance, degrees = pooled_variance(noise)
    if len(losses) < 2 or not degrees:
        return None
    values = np.concatenate(list(losses.values()))
    if reference is None:
        variance, degrees = values.var(ddof=1), len(values) - 1
    from_seeds = _variance_from_seeds([noise[method] for method in losses])
    return _t_test(values, factor * max(variance / len(values), from_seeds), degrees, margin)


def pooled_variance(values: Values) -> tuple[float, float]:
    """The variance over seeds within methods, and its degrees of freedom; nan and 0 if no method has two seeds.

    Satterthwaite's degrees (Biometrics Bulletin, 1946), corrected for the bias at few: all of them if the variances are
    equal, those of one method if it has nearly all of the variance.
    """
    several = [seeds for seeds in values.values() if len(seeds) > 1]
    if not several:
        return float("nan"), 0.0
    degrees = np.array([len(seeds) - 1.0 for seeds in several])
    squares = np.array([((seeds - seeds.mean()) ** 2).sum() for seeds in several])
    quartic = squares**2 / (degrees + 2)  # unbiased for degrees * sigma^4
    alike = (squares.sum() ** 2 - 2 * quartic.sum()) / quartic.sum() if quartic.sum() else degrees.sum()
    return float(squares.sum() / degrees.sum()), float(np.clip(alike, degrees.min(), degrees.sum()))


def _t_test(values: np.ndarray, variance: float, degrees: float, margin: float) -> Test:
    """Test the mean of `values`, whose variance is given."""
    loss, error = float(values.mean()), float(np.sqrt(variance))
    if error == 0:  # all moved by the same amount, which noise does not do
        return Test(error, float(loss <= margin), float(-loss <= margin))
    fall, rise = (float(stdtr(degrees, (margin - change) / error)) for change in (loss, -loss))
    return Test(error, fall, rise)


def _variance_from_seeds(values: Sequence[np.ndarray]) -> float:
    """The variance of the mean over methods and seeds, from the means over methods; 0 if methods differ in seeds."""
    if len({len(seeds) for seeds in values}) > 1 or len(values[0]) == 1:
        return 0.0
    means = np.mean([seeds - seeds.mean() for seeds in values], axis=0)
    return float(means.var(ddof=1)) / len(means)


def holm(probabilities: Sequence[float]) -> list[float]:
    """Probabilities adjusted for their number, whatever their dependence (Holm, Scand. J. Statistics, 1979)."""
    order = np.argsort(probabilities, kind="stable")
    raised = np.minimum(np.asarray(probabilities)[order] * np.arange(len(order), 0, -1), 1.0)
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(raised)
    return adjusted.tolist()
