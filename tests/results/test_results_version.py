"""A version names the scores of a result set, and nothing else of it."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from tiny import PROJECT

from lorun.errors import LorunError
from lorun.results.version import Version, scores_digest, version_of, write_version

TABLES = ("rows.csv", "accounting.csv")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tables of quick, without a version."""
    for name in TABLES:
        shutil.copy(PROJECT / "results/quick" / name, tmp_path)
    return tmp_path


def change(path: Path, column: str, value: object) -> None:
    """Another value in the first row."""
    frame = pd.read_csv(path, dtype=str)
    assert frame.loc[0, column] != value
    frame.loc[0, column] = value
    frame.to_csv(path, index=False)


def test_the_number_counts_contents(folder):
    assert version_of(folder) is None
    first = write_version(folder, "quick")
    assert first == Version("quick", 1, 1, scores_digest(folder))
    assert write_version(folder, "quick") == first == version_of(folder)
    change(folder / "rows.csv", "value", "12.5")
    assert not first.holds(folder)
    second = write_version(folder, "quick")
    assert (second.version, second.scores != first.scores, second.holds(folder)) == (2, True, True)
    assert second.cited == f"version 2, scores {second.scores[:10]}"


@pytest.mark.parametrize(
    ("table", "column", "value", "same"),
    [
        ("rows.csv", "value", "12.5", False),
        ("rows.csv", "status", "diverged", False),
        ("rows.csv", "seed", "7", False),
        ("accounting.csv", "parameters_network", "7", False),
        ("accounting.csv", "step_total", "7", False),
        ("rows.csv", "commit", "0" * 40, True),
        ("rows.csv", "device", "another", True),
        ("rows.csv", "run", "0123456789", True),
        ("accounting.csv", "versions", "torch=3", True),
        ("accounting.csv", "step_other", "7", True),
    ],
)
def test_scores_and_counts_make_a_version_and_their_origin_does_not(folder, table, column, value, same):
    before = scores_digest(folder)
    change(folder / table, column, value)
    assert (scores_digest(folder) == before) is same


def test_the_order_of_rows_and_new_columns_do_not_count(folder):
    before = scores_digest(folder)
    rows, accounts = (pd.read_csv(folder / name, dtype=str) for name in TABLES)
    rows[::-1].to_csv(folder / "rows.csv", index=False)
    accounts.assign(new=1).to_csv(folder / "accounting.csv", index=False)
    assert scores_digest(folder) == before


def test_a_row_less_is_another_version(folder):
    before = scores_digest(folder)
    pd.read_csv(folder / "rows.csv", dtype=str)[1:].to_csv(folder / "rows.csv", index=False)
    assert scores_digest(folder) != before


WRONG_TYPE = '{"result_set": "a", "version": "1", "schema": 1, "scores": "a"}'
SETS = sorted(path.parent for path in PROJECT.glob("results/*/rows.csv"))


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 1}', WRONG_TYPE])
def test_a_damaged_version_is_refused(folder, content):
    (folder / "version.json").write_text(content)
    with pytest.raises(LorunError, match=r"version\.json: damaged; restore it from git"):
        write_version(folder, "quick")


def test_tables_that_cannot_be_hashed_are_named(folder):
    accounts = pd.read_csv(folder / "accounting.csv").drop(columns="flops")
    accounts.to_csv(folder / "accounting.csv", index=False)
    with pytest.raises(LorunError, match=r"accounting\.csv: not the columns of this version: flops"):
        scores_digest(folder)
    (folder / "accounting.csv").unlink()
    with pytest.raises(LorunError, match=r"accounting\.csv: not a readable table"):
        scores_digest(folder)


@pytest.mark.parametrize("folder", SETS, ids=lambda path: path.name)
def test_committed_result_sets_are_the_version_that_they_say(folder):
    version = version_of(folder)
    assert version is not None
    assert version.result_set == folder.name
    assert version.holds(folder)
    assert json.loads((folder / "version.json").read_text())["schema"] == 1


def test_a_set_of_which_nothing_was_accounted_has_a_version(folder):
    before = write_version(folder, "quick")
    (folder / "accounting.csv").write_text("\n")
    assert write_version(folder, "quick").version == before.version + 1
