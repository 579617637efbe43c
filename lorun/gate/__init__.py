"""The gate: whether a candidate's results are worse than a reference's, by limits and error rates that are stated."""

from collections.abc import Iterator
from dataclasses import replace

from lorun.errors import LorunError
from lorun.gate.counts import compare_counts
from lorun.gate.findings import Finding, Report, ordered
from lorun.gate.limits import Limits
from lorun.gate.pairs import pair, with_seeds_of
from lorun.gate.presence import compare_presence
from lorun.gate.protocols import compare_protocols
from lorun.gate.scores import Compared, compare_scores, judge_scores, run_scores
from lorun.gate.sources import ResultSet, read_result_sets
from lorun.gate.stages import compare_stages
from lorun.gate.times import compare_times

__all__ = ["Finding", "Limits", "Report", "ResultSet", "compare", "gate", "read_result_sets"]


def gate(reference: str, candidate: str, limits: Limits | None = None, *, strict: bool = False) -> Report:
    """Compare two sources of result sets (`lorun.gate.sources.read_result_sets`).

    Raises:
        LorunError: a source cannot be read; or one side holds several result sets and the other only one.
    """
    limits = limits or Limits()
    findings = compare(read_result_sets(reference), read_result_sets(candidate), limits)
    return Report(reference, candidate, findings, strict, limits.stated())


def compare(
    reference: list[ResultSet], candidate: list[ResultSet], limits: Limits | None = None
) -> tuple[Finding, ...]:
    """Everything that the checks find, worst first. Result sets go by name, unless either side has only one.

    Raises:
        LorunError: one side holds several result sets and the other only one.
    """
    limits = limits or Limits()
    if (len(reference) == 1) != (len(candidate) == 1):
        many = max(reference, candidate, key=len)
        names = ", ".join(one.name for one in many)
        raise LorunError(
            f"one side holds several result sets, the other one: name the same one of {names} on both sides"
        )
    if len(reference) == 1:
        before, after = {"": reference[0]}, {"": candidate[0]}
    else:
        before, after = ({f"{one.name}: ": one for one in side} for side in (reference, candidate))
    findings: list[Finding] = []
    scores: list[Compared] = []
    for prefix in sorted(before.keys() | after.keys()):
        if prefix not in after:
            findings.append(Finding("rows", "failed", prefix.removesuffix(": "), "the whole result set is missing"))
        elif prefix not in before:
            findings.append(Finding("rows", "new", prefix.removesuffix(": "), "the whole result set is new"))
        else:
            findings += (
                replace(finding, subject=prefix + finding.subject)
                for finding in _compare(before[prefix], after[prefix], limits)
            )
            scores += _scores(before[prefix], after[prefix], limits, prefix)
    return ordered([*findings, *judge_scores(scores, limits)])


def _compare(reference: ResultSet, candidate: ResultSet, limits: Limits) -> Iterator[Finding]:
    """All checks of one result set but that of scores, whose error rate is one for all sets together."""
    if limits.fresh_seeds:
        candidate = _renumbered(reference, candidate)
    yield from compare_presence(reference.rows, candidate.rows)
    yield from compare_counts(reference.accounts, candidate.accounts, limits)
    yield from compare_stages(reference, candidate)
    yield from compare_times(reference.timing, candidate.timing, limits)
    if not limits.fresh_seeds:
        yield from compare_protocols(pair(reference.rows, candidate.rows), limits)


def _scores(reference: ResultSet, candidate: ResultSet, limits: Limits, prefix: str) -> list[Compared]:
    if limits.fresh_seeds:
        candidate = _renumbered(reference, candidate)
    return compare_scores(run_scores(pair(reference.rows, candidate.rows), limits), limits, prefix)


def _renumbered(reference: ResultSet, candidate: ResultSet) -> ResultSet:
    return replace(candidate, rows=with_seeds_of(reference.rows, candidate.rows))
