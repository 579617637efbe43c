"""The table of rows: what is written is read back, types included."""

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorun.errors import LorunError
from lorun.results.rows import COLUMNS, read_rows, to_frame, write_table

ROW = {
    "task": "cs",
    "dataset": "set11",
    "setting": "r25",
    "method": "lorun",
    "seed": 3,
    "image": "parrots",
    "degradation": "7",
    "protocol": "cs_float_y",
    "metric": "psnr",
    "value": 31.25,
    "status": "completed",
    "message": None,
    "steps": 600,
    "scored_step": 300,
    "checkpoint_policy": "last",
    "trained_commit": None,
    "trained_dirty": None,
    "trained_device": "cpu",
    "trained_threads": 1,
    "run": "0123456789",
    "config_hash": "12345e6789",
    "commit": "f" * 40,
    "dirty": False,
    "data_md5": "photos=" + "0" * 32 + ".dir",
    "device": "cpu",
    "threads": 2,
    "python": "3.11.7",
    "versions": "torch=2.15.0 peft=0.21.2",
}
INTEGERS = ("seed", "steps", "scored_step", "trained_threads", "threads")
BOOLEANS = ("trained_dirty", "dirty")


def round_trip(rows, path):
    write_table(path, to_frame(rows))
    return read_rows(path)


def plain(frame):
    """The rows as mappings of Python's own types, None where there is nothing."""
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{name: getattr(value, "item", lambda value=value: value)() for name, value in r.items()} for r in records]


def test_the_row_of_this_test_has_every_column():
    assert tuple(ROW) == COLUMNS


def test_numbers_come_back_as_numbers_and_null_as_null(tmp_path):
    failed = {**ROW, "image": None, "value": None, "status": "failed", "message": 'error: "a", b', "steps": None}
    frame = round_trip([ROW, failed], tmp_path / "rows.csv")
    assert plain(frame) == [ROW, failed]
    assert frame.value.dtype == float
    assert [frame[name].dtype for name in INTEGERS] == [pd.Int64Dtype()] * len(INTEGERS)


@pytest.mark.parametrize("name", BOOLEANS)
@pytest.mark.parametrize("values", [(True, False), (True, None), (None, None)])
def test_truth_values_come_back_as_truth_values(tmp_path, name, values):
    found = plain(round_trip([{**ROW, name: value} for value in values], tmp_path / "rows.csv"))
    assert [row[name] for row in found] == list(values)


@pytest.mark.parametrize("text", ["001", "1e5", "NA", "null", "nan", "True", "-", "a,b", 'say "x"', "a\nb", " c "])
def test_a_name_that_looks_like_something_else_stays_text(tmp_path, text):
    """All of one image or one run: nothing else in the column tells that it is text."""
    (found,) = plain(round_trip([{**ROW, "image": text, "degradation": text, "run": text}], tmp_path / "rows.csv"))
    assert (found["image"], found["degradation"], found["run"]) == (text, text, text)


def test_a_second_trip_changes_no_byte(tmp_path):
    rows = [{**ROW, "value": value} for value in (1 / 3, 79.99999949, None, 0.0)]
    again = round_trip(rows, tmp_path / "first.csv")
    write_table(tmp_path / "second.csv", again)
    assert (tmp_path / "first.csv").read_bytes() == (tmp_path / "second.csv").read_bytes()
    assert again.value.tolist()[:2] == [0.333333, 79.999999]


# No lone surrogates and no control characters but the line feed; an empty text is null.
TEXT = st.one_of(
    st.none(), st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n"), min_size=1)
)
CELLS = {
    **dict.fromkeys(COLUMNS, TEXT),
    **dict.fromkeys(INTEGERS, st.one_of(st.none(), st.integers(-(2**53), 2**53))),
    **dict.fromkeys(BOOLEANS, st.one_of(st.none(), st.booleans())),
    "value": st.one_of(st.none(), st.floats(-1e6, 1e6)),
}


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=4))
def test_any_row_survives(tmp_path_factory, rows):
    found = plain(round_trip(rows, tmp_path_factory.mktemp("rows") / "rows.csv"))
    for row, back in zip(rows, found, strict=True):
        value, read = row.pop("value"), back.pop("value")
        assert back == row
        assert read is None if value is None else math.isclose(read, value, rel_tol=1e-12, abs_tol=1e-6)


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ([*COLUMNS, "extra"], "extra"),
        (COLUMNS[:-1], "versions"),
        ([*COLUMNS[1:], COLUMNS[0]], "their order"),
    ],
)
def test_other_columns_are_refused(tmp_path, columns, named):
    path = tmp_path / "rows.csv"
    pd.DataFrame([dict.fromkeys(columns, 1)], columns=list(columns)).to_csv(path, index=False)
    with pytest.raises(LorunError, match=rf"rows\.csv: not the columns of this version: {named}$"):
        read_rows(path)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(LorunError, match=r"none\.csv: no such table of rows"):
        read_rows(tmp_path / "none.csv")


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe", b'a,b\n"1'])
def test_what_is_no_table_is_refused(tmp_path, content):
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(LorunError, match=r"rows\.csv: not "):
        read_rows(path)
