"""What any two result sets give: nothing against itself, the same in any order, missing one way is new the other."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planted import trained_anew, with_rows

from lorun.errors import LorunError
from lorun.gate import Limits, ResultSet, compare
from lorun.gate.findings import Finding

few = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

KEY = st.tuples(
    st.sampled_from(["cs", "sr"]),
    st.sampled_from(["r10", "r25"]),
    st.sampled_from(["lorun", "block_k", "linear_mmse"]),
    st.integers(0, 2),
    st.sampled_from(["camera", "NA"]),
    st.sampled_from([("psnr", 20.0), ("ssim", 0.7), ("sam", 9.0)]),
)


@st.composite
def result_sets(draw: st.DrawFn) -> ResultSet:
    """A few rows of a few methods; a training completes as a whole or does not."""
    rows = []
    ended: dict[tuple[Any, ...], str] = {}
    for task, setting, method, seed, image, (metric, value) in draw(st.sets(KEY, min_size=1, max_size=30)):
        run = (task, setting, method, seed)
        status = ended.setdefault(run, draw(st.sampled_from(["completed", "completed", "diverged"])))
        rows.append(
            {
                **dict(zip(("task", "setting", "method", "seed"), run, strict=True)),
                "dataset": "photos",
                "image": image,
                "degradation": None,
                "protocol": "p",
                "metric": metric,
                "status": status,
                "value": value + draw(st.floats(-1, 1)) if status == "completed" else None,
                "steps": 0 if method == "linear_mmse" else 100,
            }
        )
    return ResultSet("some", "nowhere", pd.DataFrame(rows))


def listed(findings: tuple[Finding, ...], verdict: str) -> set[tuple[str, str]]:
    """Missing or new rows and runs, by subject, in words that are the same for both."""
    words = [(one.subject, one.message) for one in findings if one.check == "rows" and one.verdict == verdict]
    return {
        (subject, said.replace("missing", "?").replace("new", "?").removesuffix(" in the reference"))
        for subject, said in words
    }


@few
@given(result_sets())
def test_against_itself_everything_passes(results: ResultSet) -> None:
    assert not [one for one in compare([results], [results]) if one.verdict in ("failed", "improved", "new")]


@few
@given(result_sets(), result_sets(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(one: ResultSet, other: ResultSet, random: Any) -> None:
    def shuffled(results: ResultSet) -> ResultSet:
        order = list(range(len(results.rows)))
        random.shuffle(order)
        return with_rows(results, results.rows.iloc[order])

    assert compare([one], [other]) == compare([shuffled(one)], [shuffled(other)])


@few
@given(result_sets(), result_sets())
def test_what_is_missing_one_way_is_new_the_other(one: ResultSet, other: ResultSet) -> None:
    there, back = compare([one], [other]), compare([other], [one])
    assert listed(there, "failed") == listed(back, "new")
    assert listed(there, "new") == listed(back, "failed")


def verdicts(reference: ResultSet, candidate: ResultSet, check: str, *limits: Limits) -> set[str]:
    return {one.verdict for one in compare([reference], [candidate], *limits) if one.check == check}


def edited(results: ResultSet, table: str, method: str, **values: object) -> ResultSet:
    """With other values in the lines of a method of compressed sensing."""
    frame = getattr(results, table).copy()
    which = (frame.task == "cs") & (frame.method == method)
    for column, value in values.items():
        frame.loc[which, column] = value
    return replace(results, **{table: frame})


def test_fewer_bytes_and_flops_are_told_as_improvements(quick: ResultSet) -> None:
    better = edited(quick, "accounts", "lorun", inference_total="17000000", flops="8000000000")
    assert "improved" in verdicts(quick, better, "bytes")
    assert "failed" not in verdicts(quick, better, "bytes") | verdicts(quick, better, "flops")
    assert "failed" in verdicts(better, quick, "bytes")
    assert "failed" in verdicts(better, quick, "flops")
    assert "failed" not in verdicts(better, quick, "bytes", Limits(bytes=5.0))


@pytest.mark.parametrize("count", ["50379", "50381"])
def test_parameters_fail_either_way(quick: ResultSet, count: str) -> None:
    other = edited(quick, "accounts", "lorun", parameters_network=count)
    assert "failed" in verdicts(quick, other, "parameters")
    assert "failed" not in verdicts(quick, other, "parameters", Limits(parameters=0.01))


def test_counts_of_another_size_are_not_compared(quick: ResultSet) -> None:
    found = compare([quick], [edited(quick, "accounts", "lorun", step_batch="8", step_total="1")])
    [failed] = [one for one in found if one.verdict == "failed"]
    assert "counted at another `step_batch`: 16 -> 8" in failed.message


@pytest.mark.parametrize("table", ["accounts", "rows"])
def test_a_method_that_is_gone_fails(quick: ResultSet, table: str) -> None:
    frame = getattr(quick, table)
    without = replace(quick, **{table: frame[frame.method != "shared"].reset_index(drop=True)})
    assert "failed" in verdicts(quick, without, "bytes" if table == "accounts" else "rows")
    assert "failed" not in {one.verdict for one in compare([without], [quick])}


def test_tables_that_are_missing(quick: ResultSet) -> None:
    bare = replace(quick, accounts=None)
    assert "failed" in verdicts(quick, bare, "bytes")
    assert verdicts(bare, quick, "bytes") == {"unknown"}


def test_a_training_that_diverges_fails_and_one_that_completes_again_improves(quick: ResultSet) -> None:
    rows = quick.rows
    run = (rows.task == "cs") & (rows.method == "lorun") & (rows.seed == 1)
    one = rows[run].iloc[:1].assign(image=None, value=None, status="diverged")
    diverged = with_rows(quick, pd.concat([rows[~run], one]))
    [failed] = [found for found in compare([quick], [diverged]) if found.verdict == "failed"]
    assert (failed.check, failed.subject) == ("status", "cs/r25/lorun seed 1")
    assert failed.message == "diverged; completed in the reference"
    assert verdicts(diverged, quick, "status") == {"improved"}


def test_one_seed_is_judged_by_the_tolerance(quick: ResultSet) -> None:
    single = with_rows(quick, quick.rows[quick.rows.seed == 0])
    for loss, expected in ((0.25, False), (0.35, True)):
        worse = with_rows(single, trained_anew(quick, np.random.default_rng(0), 0.0, loss=loss).rows.query("seed == 0"))
        assert ("failed" in verdicts(single, worse, "scores")) is expected
        assert "failed" in verdicts(single, worse, "scores", Limits(tolerance={**Limits().tolerance, "psnr": 0.2}))


def test_a_set_of_which_every_network_was_trained_anew_has_no_protocol_to_check(quick: ResultSet) -> None:
    trained = with_rows(quick, quick.rows[quick.rows.steps > 0])
    assert verdicts(trained, trained_anew(trained, np.random.default_rng(0), 0.0), "protocol") == set()


def test_times_fail_only_where_a_limit_is_set(quick: ResultSet) -> None:
    assert quick.timing is not None
    slower = edited(quick, "timing", "lorun", median_ms=2000.0)
    assert "failed" not in verdicts(quick, slower, "time")
    assert "failed" in verdicts(quick, slower, "time", Limits(time=50.0))
    twice = replace(quick, timing=quick.timing.assign(median_ms=2 * quick.timing.median_ms))  # a slower machine
    assert verdicts(quick, twice, "time", Limits(time=1.0)) == {"passed"}
    assert "unknown" in verdicts(quick, quick, "time", Limits(time=1.0, time_base="nothing"))


def test_result_sets_go_by_name(quick: ResultSet) -> None:
    one, other = replace(quick, name="one"), replace(quick, name="other")
    found = compare([one, other], [one, replace(quick, name="third")])
    assert {(found.subject, found.verdict) for found in found if found.verdict in ("failed", "new")} == {
        ("other", "failed"),
        ("third", "new"),
    }
    with pytest.raises(LorunError, match="one side holds several result sets"):
        compare([one, other], [one])
