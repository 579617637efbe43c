"""What the checks find, and in which order it is told."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["failed", "unknown", "improved", "new", "noted", "passed"]

CHECKS = {
    "rows": "every row of the reference is there",
    "status": "no run ended worse",
    "stages": "every parameter that is trained moved",
    "protocol": "scores stay where weights stay, or where there are none",
    "parameters": "parameters are those of the reference",
    "bytes": "no counted bytes were added",
    "flops": "no FLOPs were added",
    "scores": "no score fell by more than the noise of trainings explains",
    "time": "ratios of times, each within one run",
}
"""Every check by name, with what passes it."""

_ORDER: tuple[Verdict, ...] = ("failed", "unknown", "new", "improved", "noted", "passed")


@dataclass(frozen=True)
class Finding:
    """One thing that was compared.

    check      of `CHECKS`
    verdict    failed: the gate fails; unknown: could not be compared, and so is not passed; improved, new, noted: told,
               no more; passed
    subject    what it is about: task/setting/method, with the result set before it where there are several
    message    what was found, for people: one sentence
    reference  the number of either side, None where there is none
    candidate
    severity   how bad, among findings of one check and verdict; a relative or standardised difference
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
        order = list(CHECKS).index(self.check)
        return (_ORDER.index(self.verdict), order, -self.severity, self.subject, self.message)


@dataclass(frozen=True)
class Report:
    """All findings of a comparison, worst first.

    reference  what was compared with what, as the user named it
    candidate
    strict     whether what is unknown fails, too
    stated     the limits and error rates that were applied, a sentence each
    """

    reference: str
    candidate: str
    findings: tuple[Finding, ...]
    strict: bool = False
    stated: tuple[str, ...] = field(default=())

    @property
    def failures(self) -> list[Finding]:
        """What the gate fails by."""
        failing = ("failed", "unknown") if self.strict else ("failed",)
        return [finding for finding in self.findings if finding.verdict in failing]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def count(self, verdict: Verdict) -> int:
        """Findings with this verdict."""
        return sum(finding.verdict == verdict for finding in self.findings)


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings, worst first; the same order whatever order they come in."""
    return tuple(sorted(findings, key=lambda finding: finding.rank))
