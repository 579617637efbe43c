"""Cells of tables: which are the best, and how Markdown and LaTeX show them."""

import pandas as pd
import pytest

from lorun.results.cells import NONE, Column, Table, cell, column, make_table, spread

PSNR = Column("PSNR", lambda row: spread(row.psnr, row.sd, 2), "higher")


def marks(scores, better="higher", **columns):
    """The mark of each score, shown with two decimals."""
    frame = pd.DataFrame({"psnr": scores, "sd": None, **columns})
    table = make_table(frame, [PSNR._replace(better=better)])
    return [row[0].mark for row in table.rows]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([30.0, 32.0, 31.0, 29.0], ["", "best", "second", ""]),
        ([30.001, 30.004, 29.0, 28.0], ["best", "best", "second", ""]),  # the first two look the same
        ([30.0, 29.001, 29.004, None], ["best", "second", "second", ""]),
        ([30.0, 30.0, None], ["", "", ""]),  # nothing to choose
        ([30.0, None], ["", ""]),
        ([None, None], ["", ""]),
        ([9.5, 10.0, -11.0], ["second", "best", ""]),  # by number, not as text
    ],
)
def test_equal_texts_share_a_mark(scores, expected):
    assert marks(scores) == expected


def test_lower_may_be_better_and_a_column_may_have_no_best():
    assert marks([3.0, 1.0, 2.0], "lower") == ["", "best", "second"]
    assert marks([3.0, 1.0, 2.0], None) == ["", "", ""]


def test_protocols_are_ranked_apart_and_an_oracle_is_not():
    protocols = ["a", "a", "b", "b", "b"]
    assert marks([1.0, 2.0, 9.0, 8.0, 7.0], protocol=protocols) == ["second", "best", "best", "second", ""]
    assert marks([1.0, 2.0, 9.0], method=["lorun", "block_k", "oracle"]) == ["second", "best", ""]


def test_a_spread_does_not_count():
    frame = pd.DataFrame({"psnr": [30.001, 30.004, 29.0], "sd": [0.1, 0.2, 0.3]})
    assert [row[0].mark for row in make_table(frame, [PSNR]).rows] == ["best", "best", "second"]


def test_an_older_table_may_lack_a_column():
    assert make_table(pd.DataFrame({"a": [1]}), [column("b")]).rows[0][0].text == NONE


def test_markdown_and_latex_show_the_marks():
    frame = pd.DataFrame({"method": ["block_k", "a&b"], "psnr": [30.0, 29.0], "sd": [0.5, None]})
    table = make_table(frame, [column("method"), PSNR])
    assert [line.split("|")[2].strip() for line in table.markdown().splitlines()[2:]] == [
        "**30.00 ± 0.50**",
        "<ins>29.00</ins>",
    ]
    lines = table.latex("of 100 %", "tab:one").splitlines()
    assert r"\caption{of 100 \%}" in lines
    assert r"block\_k & \textbf{30.00 $\pm$ 0.50} \\" in lines
    assert r"a\&b & \underline{29.00} \\" in lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-0.5 [-1, 3e-05]", "$-$0.5 [$-$1, 3e-05]"),
        ("a\\b{c}", r"a\textbackslash{}b\{c\}"),
        ("~^", None),
        ("#$", r"\#\$"),
    ],
)
def test_no_character_of_a_name_means_something_to_latex(text, expected):
    shown = Table(["x"], [[cell(text)]]).latex("", "tab:x")
    assert (expected or r"\textasciitilde{}\textasciicircum{}") in shown
