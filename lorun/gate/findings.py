"""What the gate checks, what it allows and what it finds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from lorun.evaluation.metrics import METRICS

Verdict = Literal["failed", "unknown", "new", "improved", "noted", "passed"]

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
"""Worst first. Failed: the gate fails. Unknown: could not be compared; fails with --strict. The others never fail."""

CHECKS = {
    "rows": "every row of the reference is present",
    "status": "no run ended worse",
    "stages": "every trained parameter moved",
    "protocol": "scores of unchanged weights are unchanged",
    "parameters": "parameter counts are those of the reference",
    "bytes": "no more bytes than in the reference",
    "flops": "no more FLOPs than in the reference",
    "scores": "no score fell by more than training noise explains",
    "time": "times relative to a base method of the same table",
}
"""Every check and what passes it."""

TOLERANCE: Mapping[str, float] = {"psnr": 0.3, "ssim": 0.02, "sam": 2.0, "residual": 0.005}
"""How far a score may fall where there is only one seed: about three times the standard deviation of the difference of
two trainings with different seeds in `quick` (0.10 and 0.17 dB, 0.006 and 0.009, 0.8 degrees; unknown for residuals).
With several seeds, only these metrics are tested, so that further metrics of a protocol do not weaken the tests."""


@dataclass(frozen=True)
class Limits:
    """What the gate allows.

    alpha        probability that noise alone fails the score tests of a comparison, see docs/gate.md
    parameters   percent that a parameter count may change, up or down
    bytes        percent that counted bytes may rise
    flops        percent that FLOPs may rise
    time         percent that a relative time may rise; None: times are only reported
    """

    alpha: float = 0.005
    parameters: float = 0.0
    bytes: float = 0.0
    flops: float = 0.0
    time: float | None = None


def margin(metric: str) -> float:
    """The smallest difference that counts: a tenth of the last digit that tables show, 0.001 dB of PSNR."""
    return float(10.0 ** -(METRICS[metric].digits + 1))


@dataclass(frozen=True)
class Finding:
    """The result of one comparison.

    subject    task/setting/method, after the name of the result set if there are several
    reference, candidate  the number on each side, if there is one
    severity   relative or standardised difference; orders findings of the same check and verdict
    """

    check: str
    verdict: Verdict
    subject: str
    message: str
    reference: float | None = None
    candidate: float | None = None
    severity: float = 0.0

    @property
    def rank(self) -> tuple[int, int, float, str, str]:
        """Sorts findings, worst first."""
        check = list(CHECKS).index(self.check)
        return VERDICTS.index(self.verdict), check, -self.severity, self.subject, self.message


@dataclass(frozen=True)
class Report:
    """All findings of a comparison of two named sources, worst first; `strict` also fails the unknown ones."""

    reference: str
    candidate: str
    findings: tuple[Finding, ...]
    limits: Limits
    strict: bool = False

    @property
    def failures(self) -> list[Finding]:
        """The findings that make the gate fail."""
        failing = ("failed", "unknown") if self.strict else ("failed",)
        return [finding for finding in self.findings if finding.verdict in failing]

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many findings have each verdict."""
        return {verdict: sum(one.verdict == verdict for one in self.findings) for verdict in VERDICTS}
