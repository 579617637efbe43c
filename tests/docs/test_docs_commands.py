"""Every command of README and of the documentation is run as a reader would, in the order of its page."""

from pathlib import Path

import pandas as pd
import pytest
from pages import Block, blocks, pages
from reader import Reader
from tiny import PROJECT

from lorun.results.store import read_evaluation, read_result_set

FOLLOWED = ("docs/start.md", "docs/baselines.md", "docs/task.md")
"""The first by the fixture `started`, the others by tests/workflow/test_workflow_tutorial.py."""


def names() -> list[str]:
    """The pages with commands that no other test follows."""
    named = [path.relative_to(PROJECT).as_posix() for path in pages()]
    return [name for name in named if name not in FOLLOWED and any(block.language for block in blocks(PROJECT / name))]


def test_scoring_again_gives_the_same_scores(started: Reader) -> None:
    rows = read_result_set(started.root / "results/quick").rows
    before = rows[rows.method == "lorun"].reset_index(drop=True)
    again = read_evaluation(started.root / "again.csv")[1][list(before)]
    pd.testing.assert_frame_equal(again, before, check_dtype=False)


@pytest.mark.parametrize("page", names())
def test_the_commands_of_a_page_work(page: str, started: Reader, tmp_path: Path) -> None:
    reader = started.copy(tmp_path / "project")
    try:
        reader.follow(page)
    finally:
        reader.close()


def test_a_new_strategy_takes_one_file_and_a_profile() -> None:
    written = [block for block in blocks(PROJECT / "docs/method.md") if block.kind != "run"]
    assert [block.kind for block in written] == ["file", "patch"]
    assert written[1].text.count("diff --git") == 1


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("lorun data list --colour", "No such option"),
        ("lorun no-such-command", "No such"),
        ("make no-such-target", "No rule"),
        ("cat no-such-file", "No such file"),
    ],
)
def test_a_command_that_fails_is_reported_with_its_place(command: str, why: str, started: Reader) -> None:
    with pytest.raises(AssertionError, match=rf"(?s)docs/page.md:7.*{why}"):
        started._obey(Block("docs/page.md", 7, "bash", command), command)


@pytest.mark.parametrize(
    "command", ["lorun data list --colour", "make no-such-target", "torchrun -m lorun train --x 1"]
)
def test_the_options_of_a_command_that_is_not_run_are_checked(command: str, started: Reader) -> None:
    block = Block("docs/page.md", 7, "bash", command, note="not, it takes a week")
    with pytest.raises(Exception, match=r"(?i)no such option|no rule"):
        started._obey(block, command)


@pytest.mark.parametrize("note", ["never", "not,", "with"])
def test_an_incomplete_comment_is_an_error(note: str, started: Reader) -> None:
    with pytest.raises(AssertionError, match="run: "):
        started._obey(Block("docs/page.md", 7, "bash", "true", note=note), "true")
