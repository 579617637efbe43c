"""Whether a result set reproduces another one: identical, equal within noise, or different.

Identical sets have the same scores and counts, digit for digit; commits, devices and times do not count. Otherwise the
gate compares them. They differ where it finds that something got worse or better, is missing or is new.
"""

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from lorun.gate import compare
from lorun.gate.findings import Finding, Verdict
from lorun.results.store import SCORE, ResultSet, scores_digest

DIFFERENT: tuple[Verdict, ...] = ("failed", "improved", "new")
"""Verdicts of the gate that mean a difference."""

SHOWN = 5
"""Findings that a report names."""


@dataclass(frozen=True)
class Reproduction:
    """The comparison of a result set with the committed one.

    identical    same scores, statuses and counts
    differences  the gate's findings that mean a difference, worst first
    unknown      how many comparisons the gate could not make
    moved, rows  how many rows of the committed set have another value or none, and how many it has
    """

    committed: ResultSet
    identical: bool
    differences: tuple[Finding, ...]
    unknown: int
    moved: int
    rows: int

    @property
    def verdict(self) -> Literal["identical", "equal within noise", "different"]:
        if self.identical:
            return "identical"
        return "different" if self.differences else "equal within noise"

    def lines(self) -> list[str]:
        """The verdict in one line; below it the first differences, a line each."""
        version = self.committed.version
        cited = "without a version" if version is None else version.cited
        name = f"results/{self.committed.name} as committed ({cited})"
        if self.identical:
            return [f"Identical to {name}: all {self.rows} scores and the counts, digit for digit"]
        moved = f"{self.moved} of {self.rows} scores moved"
        if self.differences:
            found = [f"  {one.verdict}: {one.subject}: {one.message}" for one in self.differences[:SHOWN]]
            more = [f"  and {len(self.differences) - SHOWN} more"] if self.differences[SHOWN:] else []
            count = f"{len(self.differences)} difference{'s' * (len(self.differences) > 1)}"
            return [f"DIFFERENT from {name}: {count}, {moved}", *found, *more]
        unknown = f"; {self.unknown} comparisons could not be made" if self.unknown else ""
        return [f"Equal within noise to {name}: {moved}, none by more than the gate allows{unknown}"]


def reproduction(committed: ResultSet, made: ResultSet) -> Reproduction:
    """Compare a result set with the committed one of the same profile."""
    identical = scores_digest(committed) == scores_digest(made)
    findings = () if identical else compare([committed], [made])
    differences = tuple(one for one in findings if one.verdict in DIFFERENT)
    unknown = sum(one.verdict == "unknown" for one in findings)
    return Reproduction(
        committed, identical, differences, unknown, 0 if identical else _moved(committed, made), len(committed.rows)
    )


def _moved(committed: ResultSet, made: ResultSet) -> int:
    """How many rows of the committed set have another value, or none."""
    before, after = (results.rows.fillna({"degradation": ""}) for results in (committed, made))
    both: pd.DataFrame = before.merge(after, how="left", on=list(SCORE), suffixes=("_before", "_after"))
    return int((both.value_before != both.value_after).sum())
