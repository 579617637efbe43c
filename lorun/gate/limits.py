"""What the gate allows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from lorun.errors import LorunError, UnknownName
from lorun.evaluation.metrics import METRICS

FALLBACK: Mapping[str, float] = {"psnr": 0.3, "ssim": 0.02, "sam": 2.0, "residual": 0.005}
"""By how much a score may fall where one seed gives no spread: about three times what a difference of two trainings
with other seeds varies by in the committed `quick` (0.10 and 0.17 dB, 0.006 and 0.009, 0.8 degrees). Of the residual of
real captures nothing is known yet."""


@dataclass(frozen=True)
class Limits:
    """What is allowed.

    alpha       probability that noise alone fails the gate, over all tests of scores in one comparison, if the methods
                of a task are equally noisy; docs/gate.md has the rates where they are not
    equal       by how much the mean over images may move where no weights changed, and what a loss must exceed to count
                as one, in tenths of the last digit that tables show: of PSNR 1 is 0.001 dB. A single row may move by
                ten times as much: a rounded pixel may flip
    tolerance   by how much a score may fall where one seed gives no spread, by metric
    parameters  percent that a count may change by, either way
    bytes       percent that counted bytes may rise by
    flops       percent that FLOPs may rise by
    time        percent that a ratio of times may rise by; None: times are reported only
    time_base   the method that times are divided by
    fresh_seeds the seeds of the candidate are others: they are matched by their order, and nothing is paired by seed
    """

    alpha: float = 0.005
    equal: float = 1.0
    tolerance: Mapping[str, float] = field(default_factory=lambda: dict(FALLBACK))
    parameters: float = 0.0
    bytes: float = 0.0
    flops: float = 0.0
    time: float | None = None
    time_base: str = "block_k"
    fresh_seeds: bool = False

    def equality(self, metric: str) -> float:
        """`equal` in the unit of a metric."""
        return float(self.equal * 10.0 ** -(METRICS[metric].digits + 1))

    def stated(self) -> tuple[str, ...]:
        """The limits as sentences, for reports."""
        tolerance = ", ".join(f"{METRICS[name].title} {value:g}" for name, value in self.tolerance.items())
        equal = ", ".join(f"{METRICS[name].title} {self.equality(name):g}" for name in self.tolerance)
        return (
            f"Scores of trained methods: noise alone fails a comparison with a probability of {self.alpha:g} "
            "(t-tests of paired differences, by method and by task, Holm's correction over all). "
            f"Where one seed alone gives no spread, scores may fall by {tolerance}.",
            f"Scores without new weights: means over images equal to {equal}; each row to ten times as much.",
            f"Parameters: within {self.parameters:g} %. Bytes: at most {self.bytes:g} % more. "
            f"FLOPs: at most {self.flops:g} % more.",
            f"Times: divided by those of `{self.time_base}` of the same run, "
            + ("reported only." if self.time is None else f"at most {self.time:g} % more."),
        )


def parse_tolerances(said: list[str]) -> dict[str, float]:
    """`FALLBACK` with what the command line says, each as METRIC=VALUE.

    Raises:
        LorunError: not of this form, or no such metric.
    """
    found = dict(FALLBACK)
    for entry in said:
        name, _, text = entry.partition("=")
        if name not in METRICS:
            raise UnknownName("metric", name, METRICS)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise LorunError(f"--tolerance {entry!r}: give METRIC=VALUE with a value of at least 0, e.g. psnr=0.3")
        found[name] = value
    return found
