"""The page on tables names every column that there is, of every table, and nothing else."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from reader import Reader
from tiny import PROJECT

from lorun.evaluation.metrics import METRICS
from lorun.profiles import Profile
from lorun.results import comparison, markdown
from lorun.results.result_set import write_result_set
from lorun.training.outcome import Status

PAGE = PROJECT / "docs" / "tables.md"
TABLES = ("rows", "summary", "degradations", "comparison", "claims", "accounting", "trainings", "curves", "timing")


def first_cells(heading: str, titled: str) -> Iterator[str]:
    """The code in the first column of the tables titled so, below a heading of the page."""
    section = re.split(r"(?m)^## ", PAGE.read_text(encoding="utf-8"))
    [text] = [part for part in section if part.startswith(f"{heading}\n")]
    title = None
    for line in text.splitlines():
        cell = line.split("|")[1].strip() if line.startswith("|") else None
        if title == titled and cell is not None:
            yield from re.findall(r"`([^`]+)`", cell)
        title = cell if title is None or cell is None else title


def columns(path: Path) -> list[str]:
    return path.read_text().splitlines()[0].split(",")


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_explained(table: str, started: Reader) -> None:
    explained = list(first_cells(f"`{table}.csv`", "column"))
    assert len(set(explained)) == len(explained)
    assert set(explained) == set(columns(started.root / "results" / "quick" / f"{table}.csv"))


def test_every_column_of_tasks_that_share_a_base_is_explained(
    tasks_profile: Profile, tasks_data: Path, tmp_path: Path
) -> None:
    write_result_set(tasks_profile, tmp_path / "runs", tmp_path, partial=True, data=tasks_data)
    assert set(first_cells("`tasks.csv`", "column")) == set(columns(tmp_path / "tasks.csv"))


def test_there_is_no_other_table(started: Reader) -> None:
    there = {path.stem for path in (started.root / "results" / "quick").glob("*.csv")}
    assert there == set(TABLES)
    headings = re.findall(r"(?m)^## `(\w+)\.csv`$", PAGE.read_text(encoding="utf-8"))
    assert sorted(headings) == sorted({*TABLES, "tasks"})


def test_every_heading_of_the_summary_is_explained() -> None:
    explained = set(first_cells("`summary.md`", "heading"))
    metrics = {metric.heading for metric in METRICS.values()}
    assert explained == {*metrics, "status", *(title for title, _ in markdown.COSTS)}


def test_every_verdict_is_explained() -> None:
    said = [(None, "trained", "p"), (1.0, "trained", None), (1.0, "trained", "p"), (0.0, "released", "p")]
    said.append((1.0, "released", "p"))
    verdicts = {comparison._verdict(delta, 0.1, weights, protocol) for delta, weights, protocol in said}
    assert set(first_cells("`comparison.csv`", "verdict")) == verdicts


def test_every_status_is_explained() -> None:
    assert set(first_cells("Status", "status")) == {*get_args(Status), "failed", "not_run"}
