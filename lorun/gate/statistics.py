"""Tests of whether scores fell, with the noise taken from the few seeds that there are, pooled over methods.

The model: the loss of method i and seed s, averaged over images and degradations, is *d_is = delta_i + e_is*, with e_is
independent and normal. Images are paired, so that what an image is worth cancels. What a seed is worth does not cancel;
it is estimated twice, and either estimate gives a test:

paired      from d_is itself, where both sides have the same seeds: patches and initial weights are then the same, and
            only what differs between two trainings from there is noise. Var e = tau^2.
unpaired    from the spread over the seeds of the reference alone, as if all seeds were drawn anew: Var e = 2 sigma^2.
            The candidate cannot widen this by being unstable.

Two seeds alone leave a t-test one degree of freedom; so variances are pooled over methods, with as many degrees of
freedom as they are alike: sum (S_i - 1) where they are equal, those of one method where it makes nearly all of the
variance (Satterthwaite, Biometrics Bulletin, 1946, its bias at few degrees corrected). A method whose own variance is
above the pooled one is judged by its own. Of a task, the mean of all d_is is tested: with n - 1 degrees of freedom
where paired, and with no less variance than the means over methods show from seed to seed, so that an effect that a
seed has on all methods at once counts once, not M times.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr


@dataclass(frozen=True)
class Test:
    """A one-sided t-test of "the loss is not above the margin".

    loss    estimated, positive is worse
    error   standard error of it
    degrees of freedom
    p       probability of as large a t where the loss is the margin
    """

    loss: float
    error: float
    degrees: float
    p: float


Losses = Mapping[str, np.ndarray]
"""Of each method, a value per seed."""


def _t_test(loss: float, error: float, degrees: float, margin: float) -> Test:
    if error == 0:  # all moved by the same, which noise does not do
        return Test(loss, error, degrees, 0.0 if loss > margin else 1.0)
    return Test(loss, error, degrees, float(stdtr(degrees, -(loss - margin) / error)))


def pooled_variance(values: Losses) -> tuple[float, float]:
    """Variance from seed to seed within methods, and its degrees of freedom: nan and 0 where none has two seeds."""
    degrees = np.array([len(of) - 1 for of in values.values()], dtype=float)
    squares = np.array([float(((of - of.mean()) ** 2).sum()) for of in values.values()])
    if not degrees.sum():
        return float("nan"), 0.0
    squares, degrees = squares[degrees > 0], degrees[degrees > 0]
    quartic = squares**2 / (degrees + 2)  # of nu sigma^4, without bias
    alike = (squares.sum() ** 2 - 2 * quartic.sum()) / quartic.sum() if quartic.sum() else degrees.sum()
    return squares.sum() / degrees.sum(), float(np.clip(alike, degrees.min(), degrees.sum()))


def method_test(losses: Losses, method: str, noise: Losses, margin: float, factor: float = 1.0) -> Test | None:
    """Test one method. `noise` holds what the variance is estimated from, which is that of e / `factor`.

    None where there are no degrees of freedom.
    """
    pooled, degrees = pooled_variance(noise)
    if not degrees:
        return None
    of = losses[method]
    own = float(noise[method].var(ddof=1)) if len(noise[method]) > 1 else 0.0
    return _t_test(float(of.mean()), float(np.sqrt(factor * max(pooled, own) / len(of))), degrees, margin)


def task_test_paired(losses: Losses, margin: float) -> Test | None:
    """Test the mean over methods and seeds by the spread of the losses themselves. None for fewer than two methods, or
    where no method has two seeds."""
    values = np.concatenate(list(losses.values()))
    if len(losses) < 2 or not pooled_variance(losses)[1]:
        return None
    variance = max(float(values.var(ddof=1)) / len(values), _from_seed_to_seed(losses))
    return _t_test(float(values.mean()), float(np.sqrt(variance)), len(values) - 1, margin)


def task_test_unpaired(losses: Losses, reference: Losses, margin: float) -> Test | None:
    """Test the mean over methods and seeds by the spread over the reference's seeds. None as of `task_test_paired`."""
    pooled, degrees = pooled_variance(reference)
    if len(losses) < 2 or not degrees:
        return None
    values = np.concatenate(list(losses.values()))
    variance = max(pooled / len(values), _from_seed_to_seed({name: reference[name] for name in losses}))
    return _t_test(float(values.mean()), float(np.sqrt(2 * variance)), degrees, margin)


def _from_seed_to_seed(values: Losses) -> float:
    """Variance of the mean over methods and seeds that its spread from seed to seed shows; 0 where the methods do not
    have as many seeds each."""
    seeds = {len(of) for of in values.values()}
    if len(seeds) > 1 or seeds == {1}:
        return 0.0
    means = np.mean([of - of.mean() for of in values.values()], axis=0)
    return float(means.var(ddof=1)) / len(means)


def holm(probabilities: Sequence[float]) -> list[float]:
    """Probabilities adjusted for how many they are (Holm, Scandinavian Journal of Statistics, 1979).

    Where nothing is to be found, one of them is at most alpha with a probability of at most alpha, however they depend
    on each other.
    """
    order = np.argsort(probabilities, kind="stable")
    adjusted = [0.0] * len(probabilities)
    largest = 0.0
    for position, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - position) * probabilities[index]))
        adjusted[index] = largest
    return adjusted
