"""A result set with trainings, and the gate on two result sets."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lorun.gate import Finding, Limits, compare
from lorun.results.store import ResultSet, read_result_set

Failures = Callable[..., list[Finding]]


@pytest.fixture(scope="session")
def real() -> ResultSet:
    """Real results of small networks; not to be changed. Three tasks, six trained methods each, two seeds."""
    return read_result_set(Path(__file__).with_name("real"))


@pytest.fixture(scope="session")
def failures() -> Failures:
    """The findings that fail the gate: failures(reference, candidate, limits)."""

    def failures(reference: ResultSet, candidate: ResultSet, limits: Limits | None = None) -> list[Finding]:
        return [one for one in compare([reference], [candidate], limits) if one.verdict == "failed"]

    return failures
