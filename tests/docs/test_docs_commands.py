"""Every command of README and of the documentation, run as a reader would, in the order of its page."""

from pathlib import Path

import pandas as pd
import pytest
from lorun.results.rows import read_rows
from pages import Block, blocks, pages
from reader import README_READS, README_SAYS, Reader
from tiny import PROJECT

START = "docs/start.md"
TUTORIAL = "docs/baselines.md"
"""Followed by `started`, and by tests/workflow/test_workflow_tutorial.py."""

README_BEFORE = (
    "lorun train -c config/transfer.yaml --task cs --setting r10 --method lorun_transfer --seed 0",  # a set `r10`
)
"""What README takes for granted: a run of a profile that takes too long here."""


def names():
    """The pages that have commands, but for those that others follow."""
    named = [path.relative_to(PROJECT).as_posix() for path in pages()]
    return [
        name
        for name in named
        if name not in (START, TUTORIAL) and any(block.language for block in blocks(PROJECT / name))
    ]


def test_the_start_page_gives_what_it_says(started: Reader) -> None:
    assert (started.root / "results/quick/summary.md").exists()
    said = [read_rows(started.root / name) for name in ("again.csv", "results/quick/rows.csv")]
    again, before = [rows[(rows.method == "lorun")].reset_index(drop=True) for rows in said]
    pd.testing.assert_frame_equal(again, before)


@pytest.mark.parametrize("page", names())
def test_a_reader_can_do_what_the_page_says(page: str, started: Reader, tmp_path: Path) -> None:
    reader = started.copy(tmp_path / "project")
    try:
        for command in README_BEFORE if page == "README.md" else ():
            status, said = reader.run(command)
            assert status == 0, said
        reader.follow(page)
    finally:
        reader.close()


def test_what_is_said_of_commands_and_words_of_readme_is_said_of_some_that_are_there() -> None:
    readme = list(blocks(PROJECT / "README.md"))
    commands = [command for block in readme if block.language for command in block.commands]
    for begins in README_SAYS:
        assert any(command.startswith(begins) for command in commands), begins
    for word in README_READS:
        assert any(word in command for command in commands), word


def test_the_blocks_of_readme_that_are_no_commands_are_known() -> None:
    others = [block.text.split()[0] for block in blocks(PROJECT / "README.md") if not block.language]
    assert others == ["Snakefile"]  # where things are


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("lorun data list --colour", "No such option"),
        ("lorun no-such-command", "No such"),
        ("make no-such-target", "No rule"),
        ("cat no-such-file", "No such file"),
    ],
)
def test_a_command_that_fails_is_told_with_its_place(command: str, why: str, started: Reader, tmp_path: Path) -> None:
    block = Block("docs/page.md", 7, "bash", command)
    with pytest.raises(AssertionError, match=rf"(?s)docs/page.md:7.*{why}"):
        started._obey(block, command)


@pytest.mark.parametrize(
    "command", ["lorun data list --colour", "make no-such-target", "torchrun -m lorun train --x 1"]
)
def test_the_options_of_a_command_that_is_not_run_are_checked(command: str, started: Reader) -> None:
    block = Block("docs/page.md", 7, "bash", command, said="not, it takes a week")
    with pytest.raises(Exception, match=r"(?i)no such option|no rule"):
        started._obey(block, command)


def test_a_marker_that_says_nothing_is_a_mistake(started: Reader) -> None:
    for said in ("never", "not,", "with"):
        with pytest.raises(AssertionError, match="run: "):
            started._obey(Block("docs/page.md", 7, "bash", "true", said=said), "true")
