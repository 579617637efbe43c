"""The result store: what is written is read back, typed and checked."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import CODE, PROVENANCE, git, results_of
from tiny import PROJECT

from lorun.errors import LorunError
from lorun.files import write_text
from lorun.results.store import (
    ROW_COLUMNS,
    RUN_COLUMNS,
    SCHEMA,
    ResultSet,
    new_result_set,
    read_account,
    read_evaluation,
    read_result_set,
    read_result_sets,
    read_summary,
    records,
    save_result_set,
    scores_digest,
    write_evaluation,
)

PLACE = {"task": "cs", "setting": "001", "method": "lorun", "seed": 3}
RUN = {
    **PLACE,
    "run": "0123456789",
    "config_hash": "12345e6789",
    "status": "completed",
    "message": None,
    "steps": 600,
    "scored_step": 300,
    "checkpoint_policy": "last",
    "training_flops": 12_000_000,
    "precision": "float32",
    "trained_commit": None,
    "trained_dirty": None,
    "trained_device": "cpu",
    "trained_threads": 1,
    "trained_code": None,
    "accepted": None,
    "code": None,
    **PROVENANCE,
}
ROW = {**PLACE, "dataset": "set11", "image": "NA", "degradation": "7", "protocol": "cs_float_y", "metric": "psnr"}
ROW["value"] = 31.25
ACCOUNT = {"task": "cs", "setting": "001", "method": "lorun", "image": 256, "parameters_network": 7, "step_total": None}


def make(rows=(ROW,), runs=(RUN,), code=None, **lines) -> ResultSet:
    return new_result_set("made", code or {}, runs=runs, rows=rows, accounting=[ACCOUNT], **lines)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_result_set(tmp_path / "made", make())
    return tmp_path / "made"


def same(first: ResultSet, second: ResultSet) -> None:
    for name in ("runs", "rows", "accounting", "trainings", "timing", "curves", "summary", "degradations", "claims"):
        pd.testing.assert_frame_equal(getattr(first, name), getattr(second, name))


# Writing and reading


def test_what_is_written_is_read_back_with_its_types(folder: Path) -> None:
    found = read_result_set(folder)
    same(found, make())
    assert found.name == "made"
    assert found.tasks.empty
    assert records(found.rows) == [{name: ROW[name] for name in ROW_COLUMNS}]
    assert records(found.runs) == [{name: RUN[name] for name in RUN_COLUMNS}]
    assert found.accounting["image"].tolist() == [256]  # a side here, a name in rows.csv
    assert str(found.runs["steps"].dtype) == "Int64"
    assert found.scores()[["image", "status", "run"]].values.tolist() == [["NA", "completed", "0123456789"]]


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters='"'), min_size=1)


@settings(max_examples=25, deadline=None)
@given(
    image=st.sampled_from(["001", "NA", "nan", "None", "1e5", "True"]) | TEXT,
    value=st.floats(-1e6, 1e6),
    steps=st.none() | st.integers(0, 10**12),
    dirty=st.none() | st.booleans(),
    message=st.none() | TEXT,
)
def test_an_evaluation_is_read_back(tmp_path_factory, image, value, steps, dirty, message) -> None:
    path = tmp_path_factory.mktemp("evaluation") / "evaluation.csv"
    write_evaluation(path, {**RUN, "steps": steps, "dirty": dirty, "message": message}, [{**ROW, "image": image}])
    write_evaluation(path, {**RUN, "steps": steps}, [{**ROW, "image": image, "value": value}])
    run, rows = read_evaluation(path)
    assert (run["steps"], run["setting"], run["code"]) == (steps, "001", None)
    assert rows["image"].tolist() == [image]
    assert math.isclose(rows["value"][0], value, abs_tol=5.1e-7)


@pytest.mark.parametrize("name", ["evaluation.csv", "evaluation.json"])
def test_half_an_evaluation_is_refused(tmp_path: Path, name: str) -> None:
    write_evaluation(tmp_path / "evaluation.csv", {**RUN, "code": CODE}, [ROW])
    assert read_evaluation(tmp_path / "evaluation.csv")[0]["code"] == CODE
    (tmp_path / name).unlink()
    with pytest.raises(LorunError, match=f"{name}: no such file; `lorun evaluate` writes it"):
        read_evaluation(tmp_path / "evaluation.csv")


def test_an_evaluation_that_was_cut_or_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.csv"
    write_evaluation(path, RUN, [{**ROW, "image": name} for name in "abcd"])
    lines = path.read_text().splitlines(keepends=True)
    for count in range(1, 5):
        path.write_text("".join(lines[:count]))
        with pytest.raises(LorunError, match=r"evaluation\.csv: cut or changed since it was written; `lorun evaluate`"):
            read_evaluation(path)
    path.write_text("".join(lines).replace("31.25", "31.26"))
    with pytest.raises(LorunError, match=r"evaluation\.csv: cut or changed"):
        read_evaluation(path)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"task": "cs"}', '{"task": "a", "setting": "b", "method": "c", "m": "x"}']
)
def test_a_damaged_account_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "account.json").write_text(text)
    with pytest.raises(LorunError, match=r"account\.json: damaged; remove it, or run `lorun account`"):
        read_account(tmp_path / "account.json")


def test_only_code_that_is_named_is_kept_and_it_must_be_there(folder: Path) -> None:
    code = {"a" * 12: CODE, "b" * 12: {}}
    save_result_set(folder, make(runs=[{**RUN, "code": "a" * 12}], code=code))
    assert read_result_set(folder).code == {"a" * 12: CODE}
    (folder / "code.json").write_text("{}")
    with pytest.raises(LorunError, match=r"code\.json: no code a{12}, which runs\.csv names"):
        read_result_set(folder)


def test_other_files_stay_and_files_of_no_use_go(folder: Path) -> None:
    (folder / "strip.png").write_text("drawn")
    (folder / "tasks.csv").write_text("old")
    save_result_set(folder, make(), {"summary.md": "# Page\n"})
    assert (folder / "strip.png").exists()
    assert (folder / "summary.md").read_text() == "# Page\n"
    assert not (folder / "tasks.csv").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["made"]


def test_a_set_is_replaced_as_a_whole_or_not_at_all(folder: Path) -> None:
    """All is written elsewhere first, so a process that is killed leaves the old files, too."""
    (folder / "strip.png").write_text("drawn")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    seen = []

    def draw(part: Path) -> None:
        write_text(part / "strip.png", "drawn anew")
        seen.append({path.name: path.read_bytes() for path in folder.iterdir()})
        raise LorunError("the disk is full")

    with pytest.raises(LorunError, match="the disk is full"):
        save_result_set(folder, make([{**ROW, "value": 12.5}]), {"summary.md": "# Page\n"}, draw)
    assert seen == [before]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["made"]


def test_a_link_to_a_result_set_stays_one(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder.name)
    save_result_set(link, make([{**ROW, "value": 12.5}]))
    assert link.is_symlink()
    assert list(read_result_set(folder).rows.value) == [12.5]


# Errors


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("rows.csv", "31.25", "", "rows.csv: no value of cs set11 001 lorun 3 NA 7"),
        ("rows.csv", "31.25", "much", "rows.csv: wrong value in column value"),
        ("runs.csv", ",600,", ",6.5,", "runs.csv: wrong value in column steps"),
        ("rows.csv", "image", "picture", "rows.csv: wrong columns: image, picture"),
        ("rows.csv", "lorun", "lorum", "rows.csv: the run cs 001 lorum 3 is not in runs.csv"),
        ("curves.csv", "loss", "los", "curves.csv: wrong columns: los, loss"),
        ("accounting.csv", "setting", "sitting", "accounting.csv: wrong columns: setting"),
        ("version.json", '"version": 1', '"version": "1"', "version.json: damaged; restore it from git"),
        ("version.json", "{", "[", "version.json: damaged; restore it"),
    ],
)
def test_damage_is_one_line_that_names_the_table(folder: Path, table: str, old: str, new: str, message: str) -> None:
    edit(folder / table, old, new)
    with pytest.raises(LorunError) as error:
        read_result_set(folder)
    assert str(error.value).startswith(f"{folder}/{message}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("table", ["rows.csv", "runs.csv"])
def test_a_line_twice_is_refused(folder: Path, table: str) -> None:
    text = (folder / table).read_text()
    (folder / table).write_text(text + text.splitlines(keepends=True)[-1])
    with pytest.raises(LorunError, match=rf"{table}: two lines of cs .*lorun 3"):
        read_result_set(folder)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\xff", b'a,"b\n1,2\n3,"4\n', b"a,b\n1,2\n3,4,5\n"])
def test_a_file_that_is_no_table_is_refused(folder: Path, content: bytes) -> None:
    (folder / "rows.csv").write_bytes(content)
    with pytest.raises(LorunError, match=r"rows\.csv: (empty file|not a readable table|wrong columns)") as error:
        read_result_set(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "nowhere: neither a folder nor a git revision"),
        ("--output=x", "neither a folder nor a git revision"),
        ("HEAD:nowhere", "HEAD:nowhere: no result set here or in a subfolder"),
    ],
)
def test_what_is_not_there_is_named(source: str, message: str) -> None:
    with pytest.raises(LorunError, match=message):
        read_result_sets(source, PROJECT)


def test_missing_files_are_named(folder: Path) -> None:
    (folder / "runs.csv").unlink()
    with pytest.raises(LorunError, match=r"runs\.csv: missing"):
        read_result_set(folder)
    (folder / "rows.csv").unlink()
    with pytest.raises(LorunError, match=r"no result set here \(rows\.csv is missing\); `lorun table` writes one"):
        read_result_set(folder)


# Revisions


def test_a_revision_is_read_as_its_folder_was(folder: Path) -> None:
    repository, before = folder.parent, read_result_set(folder)
    git(repository, "init", "--quiet", "--initial-branch=main", ".")
    for name in ("made", "another"):
        shutil.copytree(folder, repository / "results" / name)
        git(repository, "add", "results")
        git(repository, "commit", "--quiet", "--message", name)
    for source in ("HEAD~1:results/made", "HEAD:results/made"):
        same(read_result_set(source, repository), before)
    assert [(one.name, one.where) for one in read_result_sets("HEAD", repository / "results")] == [
        ("another", "HEAD:results/another"),
        ("made", "HEAD:results/made"),
    ]
    assert [one.name for one in read_result_sets("results", repository)] == ["another", "made"]
    assert read_summary(repository / "results/made", "HEAD~1") is not None
    assert read_summary(repository / "results/another", "HEAD~1") is None


def test_a_set_of_another_schema_is_refused(folder: Path) -> None:
    edit(folder / "version.json", f'"schema": {SCHEMA}', '"schema": 1')
    with pytest.raises(LorunError, match=r"version\.json: schema 1, which only the code of its commit reads"):
        read_result_set(folder)


# Versions


def test_the_number_counts_contents(folder: Path) -> None:
    first = read_result_set(folder)
    assert first.version is not None
    assert (first.version.version, first.version.schema) == (1, SCHEMA)
    assert save_result_set(folder, make()) == first.version
    second = save_result_set(folder, make([{**ROW, "value": 12.5}]))
    assert second.version == 2
    assert second.cited == f"version 2, scores {second.scores[:10]}"
    assert read_result_set(folder).version == second


def test_a_table_that_is_not_the_one_that_was_written_is_refused(folder: Path) -> None:
    rows = [{**ROW, "image": name} for name in "abcd"]
    save_result_set(folder, make(rows))
    lines = (folder / "rows.csv").read_text().splitlines(keepends=True)
    for count in (1, 3):  # the header alone, and half of the rows
        (folder / "rows.csv").write_text("".join(lines[:count]))
        with pytest.raises(LorunError, match=r"rows\.csv: not what was written with version\.json; restore"):
            read_result_set(folder)
    (folder / "rows.csv").write_bytes("".join(lines).replace("\n", "\r\n").encode())  # as git may check it out
    assert len(read_result_set(folder).rows) == 4
    (folder / "accounting.csv").unlink()
    with pytest.raises(LorunError, match=r"accounting\.csv: not what was written"):
        read_result_set(folder)


def test_a_set_whose_version_names_no_files_must_have_its_scores(folder: Path) -> None:
    held = json.loads((folder / "version.json").read_text())
    del held["files"]
    (folder / "version.json").write_text(json.dumps(held))
    assert len(read_result_set(folder).rows) == 1
    edit(folder / "rows.csv", "31.25", "12.5")
    with pytest.raises(LorunError, match=r"made: its tables hold other scores than version\.json says"):
        read_result_set(folder)


@pytest.mark.parametrize(
    ("table", "column", "value", "counts"),
    [
        ("rows", "value", 12.5, True),
        ("runs", "status", "diverged", True),
        ("accounting", "parameters_network", 8, True),
        ("runs", "commit", "0" * 40, False),
        ("runs", "run", "9", False),
        ("accounting", "image", 7, False),
    ],
)
def test_a_version_is_of_scores_and_counts_and_not_of_their_origin(table, column, value, counts) -> None:
    before = make()
    frame = getattr(before, table).assign(**{column: value})
    after = replace(before, **{table: frame})
    digests = [scores_digest(one) for one in (before, after)]
    assert (digests[0] != digests[1]) is counts


def test_the_order_of_rows_does_not_count() -> None:
    rows = [{**ROW, "image": name} for name in "ab"]
    digests = [scores_digest(one) for one in (make(rows), make(rows[::-1]), make(rows[:1]))]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("path", sorted(PROJECT.glob("results/*/rows.csv")), ids=lambda path: path.parent.name)
def test_committed_result_sets_are_the_version_that_they_say(path: Path) -> None:
    found = read_result_set(path.parent)
    assert found.version is not None
    assert json.loads((path.parent / "version.json").read_text())["result_set"] == path.parent.name


def test_rows_without_a_value_count_for_their_run_only() -> None:
    lines = [{**RUN, **ROW}, {**RUN, **ROW, "seed": 4, "status": "failed", "value": None}]
    found = results_of(lines)
    assert (len(found.runs), len(found.rows)) == (2, 1)
