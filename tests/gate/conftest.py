"""The committed result set of `quick`, and the gate on two result sets."""

from collections.abc import Callable

import pytest
from tiny import PROJECT

from lorun.gate import Finding, ResultSet, compare, read_result_sets


@pytest.fixture(scope="session")
def quick() -> ResultSet:
    """The committed result set; not to be changed. Two tasks, six trained methods each, two seeds."""
    [results] = read_result_sets("results/quick", PROJECT)
    return results


@pytest.fixture(scope="session")
def failures() -> Callable[..., list[Finding]]:
    """What the gate fails by: failures(reference, candidate, limits)."""

    def failures(reference: ResultSet, candidate: ResultSet, *limits: object) -> list[Finding]:
        return [one for one in compare([reference], [candidate], *limits) if one.verdict == "failed"]

    return failures
