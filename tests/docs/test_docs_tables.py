"""The page on tables explains every column of every table, and no others."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from tiny import PROJECT

from lorun.evaluation.metrics import METRICS
from lorun.profiles import Profile
from lorun.results.comparison import verdict
from lorun.results.differences import BETTER, NOT_SHOWN, WORSE
from lorun.results.markdown import COSTS, DIFFERENCE
from lorun.results.result_set import write_result_set
from lorun.results.store import COLUMNS, read_result_set
from lorun.training.outcome import Status

PAGE = PROJECT / "docs" / "tables.md"


def first_cells(section: str, heading: str) -> Iterator[str]:
    """The code in the first column of the tables with this first heading, in a section of the page."""
    sections = re.split(r"(?m)^## ", PAGE.read_text(encoding="utf-8"))
    [text] = [part for part in sections if part.startswith(f"{section}\n")]
    current = None
    for line in text.splitlines():
        cell = line.split("|")[1].strip() if line.startswith("|") else None
        if current == heading and cell is not None:
            yield from re.findall(r"`([^`]+)`", cell)
        current = cell if current is None or cell is None else current


@pytest.fixture
def columns(tasks_profile: Profile, tasks_data: Path, tmp_path: Path) -> dict[str, list[str]]:
    """The columns of every table, by its name; those of an account from a committed one."""
    write_result_set(tasks_profile, tmp_path / "runs", tmp_path / "out", partial=True, data=tasks_data)
    found = {path.stem: path.read_text().split("\n")[0].split(",") for path in (tmp_path / "out").glob("*.csv")}
    accounts = read_result_set(PROJECT / "results/quick").accounting
    every_metric = [f"{name}{suffix}" for name in METRICS for suffix in ("", "_sd")]  # a profile has some of them
    found["summary"] = list(dict.fromkeys([*found["summary"], *every_metric]))
    return {**found, "accounting": [*dict.fromkeys([*accounts.columns, "account_key", "code"])]}


def test_every_column_of_every_table_is_explained(columns: dict[str, list[str]]) -> None:
    assert set(columns) == set(COLUMNS)
    headings = re.findall(r"(?m)^## `(\w+)\.csv`$", PAGE.read_text(encoding="utf-8"))
    assert sorted(headings) == sorted(COLUMNS)
    for table, names in columns.items():
        explained = list(first_cells(f"`{table}.csv`", "column"))
        assert sorted(explained) == sorted(names), table


def test_every_heading_of_the_summary_is_explained() -> None:
    metrics = {metric.heading for metric in METRICS.values()}
    headings = {*metrics, DIFFERENCE, "status", *(column.heading for column in COSTS)}
    assert set(first_cells("`summary.md`", "heading")) == headings


def test_every_verdict_is_explained() -> None:
    cases = [(None, "trained", "p"), (1.0, "trained", None), (1.0, "trained", "p"), (0.0, "released", "p")]
    verdicts = {verdict(delta, 0.1, weights, protocol) for delta, weights, protocol in [*cases, (1.0, "released", "p")]}
    assert set(first_cells("`comparison.csv`", "verdict")) == verdicts


def test_every_verdict_on_a_difference_is_explained() -> None:
    assert set(first_cells("`differences.csv`", "verdict")) == {BETTER, WORSE, NOT_SHOWN}


def test_every_status_is_explained() -> None:
    assert set(first_cells("Status", "status")) == {*get_args(Status), "failed", "not_run"}
