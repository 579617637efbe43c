"""Differences between methods, paired by image and seed, with an interval over both.

The model: the difference of image i and seed s, averaged over degradations, is *d_is = delta + a_i + b_s + e_is* with
independent normal terms: images and seeds are crossed random effects. The means over seeds and the means over images
each give a standard error of their own mean, A and B. The interval is

    mean ± sqrt((t_A A)^2 + (t_B B)^2),

with the quantiles of t for one degree of freedom less than images and seeds. It covers delta in at least 95 % of cases
(Banerjee, Sankhya, 1960), two seeds included, where Satterthwaite's degrees of freedom and a bootstrap do not. With one
seed B is not known and left out, and the interval says nothing about other seeds; so with one image.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import nctdtrinc, stdtrit

from lorun.results.store import LINE, grouped, make_table

LEVEL = 0.95
"""Of the interval."""

POWER = 0.8
"""Probability with which the least difference would be shown."""

BETTER, WORSE, NOT_SHOWN = "better", "worse", "no difference shown"
"""Verdicts: the interval lies above 0, below it, or holds it."""

METRIC = "psnr"

_DIGITS = 6


class Interval(NamedTuple):
    """A mean, its interval from `low` to `high`, and the `least` true difference that has the probability `POWER` to be
    shown: the interval does not hold 0. All but the mean are None for a single value."""

    mean: float
    low: float | None
    high: float | None
    least: float | None

    @property
    def verdict(self) -> str:
        if self.low is None or self.high is None:
            return NOT_SHOWN
        return BETTER if self.low > 0 else WORSE if self.high < 0 else NOT_SHOWN


def interval(values: np.ndarray) -> Interval:
    """The interval of the mean of `values` (images, seeds), see above.

    For `least`, each quantile of t is replaced by the noncentrality at which a t-test has the power; that is exact if
    one of the two effects dominates.
    """
    mean, half, least = float(values.mean()), 0.0, 0.0
    for axis in (0, 1):
        count = values.shape[axis]
        if count > 1:
            variance = float(values.mean(axis=1 - axis).var(ddof=1)) / count
            quantile = stdtrit(count - 1, (1 + LEVEL) / 2)
            half += quantile**2 * variance
            least += nctdtrinc(count - 1, 1 - POWER, quantile) ** 2 * variance
    if values.size == 1:
        return Interval(round(mean, _DIGITS), None, None, None)
    half, least = float(np.sqrt(half)), float(np.sqrt(least))
    return Interval(*(round(value, _DIGITS) for value in (mean, mean - half, mean + half, least)))


def differences(summary: pd.DataFrame, rows: pd.DataFrame, against: str | None = None) -> pd.DataFrame:
    """PSNR of each method minus that of its references, in dB, per line of the summary: every method against Block-K,
    and those with adapters against `shared_sigma`; or every method `against` one.

    A pair has a line if both methods have scores of the same image and seed. `least` is what the design could have
    shown, see `Interval`.
    """
    scores = grouped(rows[rows.metric == METRIC], LINE)
    lines = [
        {**line, "metric": METRIC, "reference": reference, **found}
        for line in summary.to_dict("records")
        for reference in (references(line["method"]) if against is None else {against} - {line["method"]})
        if (found := _paired(scores, line, reference)) is not None
    ]
    return make_table("differences", lines)


def references(method: str) -> list[str]:
    """The methods that a method is compared with."""
    rivals = ["block_k", "shared_sigma"] if method.startswith("lorun") else ["block_k"]
    return [name for name in rivals if name != method]


def _paired(
    scores: Mapping[tuple[Any, ...], pd.DataFrame], line: Mapping[Any, Any], reference: str
) -> dict[str, Any] | None:
    """The interval of a line's method minus the reference, over the images that all common seeds have; None without."""
    keys = [tuple({**line, "method": method}[name] for name in LINE) for method in (line["method"], reference)]
    if not all(key in scores for key in keys):
        return None
    method, other = (scores[key].pivot_table("value", "image", "seed") for key in keys)  # the mean over degradations
    paired = (method - other).dropna(axis=1, how="all").dropna()
    if paired.empty:
        return None
    found = interval(paired.to_numpy())
    images, seeds = paired.shape
    return {**found._asdict(), "images": images, "seeds": seeds, "verdict": found.verdict}
