"""The gate: compares the results of a candidate with a reference and fails where the candidate is worse."""

from dataclasses import replace
from itertools import chain

from lorun.errors import LorunError
from lorun.gate.costs import compare_counts, compare_times
from lorun.gate.findings import Finding, Limits, Report
from lorun.gate.pairs import compare_protocols, pair
from lorun.gate.runs import compare_rows, compare_stages, compare_statuses
from lorun.gate.scores import Comparison, compare_scores, judge_scores, run_scores
from lorun.results.store import ResultSet

__all__ = ["Finding", "Limits", "Report", "compare"]


def compare(
    reference: list[ResultSet], candidate: list[ResultSet], limits: Limits | None = None
) -> tuple[Finding, ...]:
    """All findings, worst first. Result sets are matched by name, or as a pair if each side has one.

    Raises:
        LorunError: one side holds several result sets and the other only one.
    """
    limits = limits or Limits()
    single = len(reference) == 1
    if single != (len(candidate) == 1):
        names = ", ".join(results.name for results in max(reference, candidate, key=len))
        raise LorunError(f"one side has several result sets ({names}), the other one: name a single set on both sides")
    before, after = ({"" if single else results.name: results for results in side} for side in (reference, candidate))
    findings = [
        *(Finding("rows", "failed", name, "the whole result set is missing") for name in before.keys() - after.keys()),
        *(Finding("rows", "new", name, "the whole result set is new") for name in after.keys() - before.keys()),
    ]
    scores: list[Comparison] = []
    for name in sorted(before.keys() & after.keys()):
        one, other = before[name], after[name]
        pairs = pair(one, other)
        prefix = f"{name}: " if name else ""
        found = chain(
            compare_statuses(one, other),
            compare_rows(one, other),
            compare_stages(one, other),
            compare_counts(one, other, limits),
            compare_times(one, other, limits),
            compare_protocols(pairs),
        )
        findings += [replace(finding, subject=prefix + finding.subject) for finding in found]
        scores += compare_scores(run_scores(pairs), prefix)
    # The error rate is that of all result sets together.
    return tuple(sorted([*findings, *judge_scores(scores, limits)], key=lambda finding: finding.rank))
