"""Accepting the code of today for runs of which one came out the same again."""

import re
from collections.abc import Callable

import pytest
from recorded import COMMON, OF_METHOD, SCORING, SOURCE, TRAINING, Suite

from lorun.errors import LorunError
from lorun.status.accept import accept
from lorun.status.project import Project

RUN = "scratch/cs/r25/lorun/0"


@pytest.fixture
def edited(suite: Suite) -> Suite:
    """All runs are stale, by an edit of what they share."""
    suite.write(COMMON, SOURCE.replace("1", "2"))
    return suite


def accepted(suite: Suite, run: str = RUN) -> str:
    return accept(Project(suite.root), run, suite.runs)


def states(suite: Suite) -> dict[tuple[str, int | None], str]:
    return {(result.method, result.seed): result.state for result in suite.checked()}


def test_equal_scores_make_all_seeds_of_the_method_fresh(edited: Suite) -> None:
    files = {path.name: path.read_bytes() for path in (edited.root / "results" / "scratch").iterdir()}
    edited.run_again("lorun")
    assert accepted(edited).endswith("2 runs of cs/r25/lorun accepted, the scores of seed 0 are equal")
    found = states(edited)
    assert {key for key, state in found.items() if state == "fresh"} == {("lorun", 0), ("lorun", 1)}
    assert found["lorun", None] == "stale"  # the account is counted again in seconds
    assert {result.accepted for result in edited.checked() if result.method == "lorun" and result.seed == 1} == {0}
    changed = {path.name for path in (edited.root / "results" / "scratch").iterdir()} - {
        name for name, content in files.items() if (edited.root / "results" / "scratch" / name).read_bytes() == content
    }
    assert changed == {"runs.csv", "code.json", "version.json"}


def test_runs_from_before_code_was_recorded_can_be_accepted(suite: Suite) -> None:
    for column in ("trained_code", "code"):
        suite.set_column("runs", column, None)
    suite.run_again("block_k", seed=1)
    accepted(suite, "scratch/cs/r25/block_k/1")
    fresh = {(method, seed) for (method, seed), state in states(suite).items() if state == "fresh" and seed is not None}
    assert fresh == {("block_k", 0), ("block_k", 1)}


def test_seeds_of_other_code_are_left_alone(suite: Suite) -> None:
    """What seed 0 shows of the edit holds for the code that seed 0 had before."""
    suite.write(TRAINING, SOURCE.replace("1", "3"))
    suite.run_again("lorun")
    accepted(suite)
    results = suite.results.runs
    suite.set_column("runs", "trained_code", results[results.method == "block_k"].trained_code.iloc[0], "lorun")
    assert states(suite)["lorun", 0] == "stale"


@pytest.mark.parametrize(
    ("again", "message"),
    [
        ({"shift": 1e-6}, "1 of 4 scores differ, by 0.000001 at most"),
        ({"trained_code": None}, "was made before code was recorded"),
        ({"run": "0123456789"}, "its configuration has changed; only a change of code can be accepted"),
    ],
)
def test_a_run_that_differs_is_refused(edited: Suite, again: dict[str, float], message: str) -> None:
    edited.run_again("lorun", **again)
    before = edited.results.runs
    with pytest.raises(LorunError, match=re.escape(message)):
        accepted(edited)
    assert edited.results.runs.equals(before)


def _run_before_the_edit(suite: Suite) -> None:
    suite.run_again("lorun")
    suite.write(SCORING, SOURCE.replace("1", "2"))


def _lose_scores(suite: Suite) -> None:
    suite.run_again("lorun")
    path = next(suite.runs.rglob("*.csv"))
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def _change_the_measures(suite: Suite) -> None:
    suite.change_task(evaluation={"protocols": ["cs_float_y"]})
    suite.run_again("lorun")


def _fail_before(suite: Suite) -> None:
    suite.set_column("runs", "status", "failed", "lorun")
    suite.run_again("lorun")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda suite: None, "evaluation.csv: no such file; `lorun evaluate` writes it"),
        (_run_before_the_edit, f"it was run before the last change of {SCORING}"),
        (_lose_scores, "evaluation.csv: cut or changed since it was written"),
        (_change_the_measures, "its configuration has changed; only a change of code can be accepted"),
        (_fail_before, "has no result of this run to compare with"),
    ],
)
def test_what_cannot_be_compared_is_refused(edited: Suite, prepare: Callable[[Suite], None], message: str) -> None:
    prepare(edited)
    with pytest.raises(LorunError, match=re.escape(message)):
        accepted(edited)


@pytest.mark.parametrize("run", ["lorun", "scratch/cs/r25/lorun", "scratch/cs/r25/lorun/first"])
def test_a_run_is_named_by_five_parts(suite: Suite, run: str) -> None:
    with pytest.raises(LorunError, match=re.escape(f"--accept {run}: expected RESULT_SET/TASK/SETTING/METHOD/SEED")):
        accepted(suite, run)


def test_other_methods_stay_stale(edited: Suite) -> None:
    edited.run_again("lorun")
    accepted(edited)
    stale = {method for (method, seed), state in states(edited).items() if state == "stale" and seed is not None}
    assert stale == set(OF_METHOD) - {"lorun"}
