"""The gate: compares the results of a candidate with a reference and fails where the candidate is worse."""

from dataclasses import replace
from itertools import chain

from lorun.errors import LorunError
from lorun.gate.costs import compare_counts, compare_times
from lorun.gate.findings import Finding, Limits, Report
from lorun.gate.pairs import compare_protocols, match_seeds, pair
from lorun.gate.runs import compare_rows, compare_stages, compare_statuses
from lorun.gate.scores import Comparison, compare_scores, judge_scores, run_scores
from lorun.results.store import ResultSet, read_result_sets

__all__ = ["Finding", "Limits", "Report", "compare", "gate"]


def gate(reference: str, candidate: str, limits: Limits | None = None, *, strict: bool = False) -> Report:
    """Compare two sources of result sets: folders or git revisions (`lorun.results.store.read_result_sets`).

    Raises:
        LorunError: a source cannot be read, or one holds several result sets and the other only one.
    """
    limits = limits or Limits()
    findings = compare(read_result_sets(reference), read_result_sets(candidate), limits)
    return Report(reference, candidate, findings, strict, limits.described())


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
    findings: list[Finding] = []
    scores: list[Comparison] = []
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            findings.append(Finding("rows", "failed", name, "the whole result set is missing"))
        elif name not in before:
            findings.append(Finding("rows", "new", name, "the whole result set is new"))
        else:
            found, compared = _compare_set(before[name], after[name], limits, f"{name}: " if name else "")
            findings += found
            scores += compared
    # The error rate is that of all result sets together.
    return tuple(sorted([*findings, *judge_scores(scores, limits)], key=lambda finding: finding.rank))


def _compare_set(
    reference: ResultSet, candidate: ResultSet, limits: Limits, prefix: str
) -> tuple[list[Finding], list[Comparison]]:
    if limits.fresh_seeds:
        candidate = match_seeds(reference, candidate)
    pairs = pair(reference, candidate, same_seeds=not limits.fresh_seeds)
    findings = chain(
        compare_statuses(reference, candidate),
        compare_rows(reference, candidate),
        compare_counts(reference.accounts, candidate.accounts, limits),
        compare_stages(reference, candidate),
        compare_times(reference.timing, candidate.timing, limits),
        () if limits.fresh_seeds else compare_protocols(pairs),
    )
    named = [replace(finding, subject=prefix + finding.subject) for finding in findings]
    return named, compare_scores(run_scores(pairs), limits, prefix)
