"""Whether a result set reproduces another one: identical, equal within noise, or different.

Identical sets have the same scores and counts, digit for digit; commits, devices and times do not count. Otherwise the
gate compares them. They differ where it finds that something got worse or better, is missing or is new.
"""

from dataclasses import dataclass
from typing import Literal

from lorun.gate import compare
from lorun.gate.findings import Finding
from lorun.results.store import SCORE, ResultSet, scores_digest

SHOWN = 5
"""Differences that are named."""


@dataclass(frozen=True)
class Reproduction:
    """The comparison of a result set with the committed one.

    lines        the verdict in words; below it the first differences, a line each
    differences  the gate's findings that mean a difference, worst first
    """

    verdict: Literal["identical", "equal within noise", "different"]
    lines: list[str]
    differences: list[Finding]


def reproduction(committed: ResultSet, made: ResultSet) -> Reproduction:
    """Compare a result set with the committed one of the same profile."""
    version = "without a version" if committed.version is None else committed.version.cited
    name = f"results/{committed.name} as committed ({version})"
    if scores_digest(committed) == scores_digest(made):
        line = f"Identical to {name}: all {len(committed.rows)} scores and the counts, digit for digit"
        return Reproduction("identical", [line], [])
    before, after = (results.rows.fillna({"degradation": ""}) for results in (committed, made))
    both = before.merge(after, how="left", on=list(SCORE), suffixes=("_before", "_after"))
    moved = f"{(both.value_before != both.value_after).sum()} of {len(both)} scores moved"
    findings = compare([committed], [made])
    differences = [one for one in findings if one.verdict in ("failed", "improved", "new")]
    if not differences:
        unknown = sum(one.verdict == "unknown" for one in findings)
        more = f"; {unknown} comparisons could not be made" if unknown else ""
        line = f"Equal within noise to {name}: {moved}, none by more than the gate allows{more}"
        return Reproduction("equal within noise", [line], [])
    count = len(differences)
    lines = [f"DIFFERENT from {name}: {count} difference{'s' * (count > 1)}, {moved}"]
    lines += [f"  {one.verdict}: {one.subject}: {one.message}" for one in differences[:SHOWN]]
    lines += [f"  and {count - SHOWN} more"] if count > SHOWN else []
    return Reproduction("different", lines, differences)
