"""Properties of any two result sets, and the checks one by one."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planted import only, trained_anew, with_status, with_table

from lorun.errors import LorunError
from lorun.evaluation.protocols import PROTOCOLS
from lorun.gate import Finding, Limits, compare
from lorun.gate.findings import TOLERANCE
from lorun.results.store import ROW_COLUMNS, RUN_COLUMNS, ResultSet, make_table

few = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

RUN = ("task", "setting", "method", "seed")
ROW = st.tuples(
    st.sampled_from(["cs", "sr"]),
    st.sampled_from(["r10", "r25"]),
    st.sampled_from(["lorun", "block_k", "linear_mmse"]),
    st.integers(0, 2),
    st.sampled_from(["camera", "NA"]),
    st.sampled_from([("psnr", 20.0), ("ssim", 0.7), ("sam", 9.0)]),
)


def result_set(runs: list[dict[str, Any]], rows: list[dict[str, Any]]) -> ResultSet:
    """A result set of nothing but runs and rows."""
    empty = pd.DataFrame()
    return ResultSet(
        name="some",
        where="nowhere",
        runs=pd.DataFrame(runs).reindex(columns=list(RUN_COLUMNS)).astype({"trained_dirty": "boolean"}),
        rows=pd.DataFrame(rows, columns=list(ROW_COLUMNS)).astype({"degradation": "str"}),
        trainings=pd.DataFrame(columns=[*RUN, "unmoved", "names"]),
        timing=make_table("timing", ()),
        **dict.fromkeys(("accounting", "curves", "summary", "degradations", "claims", "comparison"), empty),
        tuning=empty,
        differences=empty,
        tasks=None,
        code={},
        version=None,
    )


@st.composite
def result_sets(draw: st.DrawFn) -> ResultSet:
    """A few rows of a few methods; runs that did not complete have none."""
    rows, runs = [], {}
    for *labels, image, (metric, value) in draw(st.sets(ROW, min_size=1, max_size=30)):
        run = dict(zip(RUN, labels, strict=True))
        status = draw(st.sampled_from(["completed", "completed", "diverged"]))
        steps = 0 if run["method"] == "linear_mmse" else 100
        known = runs.setdefault(tuple(labels), {**run, "status": status, "steps": steps})
        if known["status"] == "completed":
            score = {"dataset": "photos", "image": image, "degradation": None, "protocol": "p", "metric": metric}
            rows.append({**run, **score, "value": value + draw(st.floats(-1, 1))})
    return result_set(list(runs.values()), rows)


def rows_found(findings: tuple[Finding, ...], verdict: str) -> set[tuple[str, str]]:
    """Missing or new rows and runs, in words that are the same for both."""
    found = [(one.subject, one.message) for one in findings if (one.check, one.verdict) == ("rows", verdict)]
    return {
        (subject, text.replace("missing", "?").replace("new", "?").removesuffix(" in the reference"))
        for subject, text in found
    }


@few
@given(result_sets())
def test_a_result_set_passes_against_itself(results: ResultSet) -> None:
    assert not [one for one in compare([results], [results]) if one.verdict in ("failed", "improved", "new")]


@few
@given(result_sets(), result_sets(), st.randoms(use_true_random=False))
def test_the_order_of_lines_does_not_matter(one: ResultSet, other: ResultSet, random: Any) -> None:
    def shuffled(results: ResultSet) -> ResultSet:
        seed = random.randrange(1000)
        tables = {name: getattr(results, name).sample(frac=1, random_state=seed) for name in ("runs", "rows")}
        return replace(results, **tables)

    assert compare([one], [other]) == compare([shuffled(one)], [shuffled(other)])


@few
@given(result_sets(), result_sets())
def test_rows_missing_in_one_direction_are_new_in_the_other(one: ResultSet, other: ResultSet) -> None:
    there, back = compare([one], [other]), compare([other], [one])
    assert rows_found(there, "failed") == rows_found(back, "new")
    assert rows_found(there, "new") == rows_found(back, "failed")


def verdicts(reference: ResultSet, candidate: ResultSet, check: str, limits: Limits | None = None) -> set[str]:
    return {one.verdict for one in compare([reference], [candidate], limits) if one.check == check}


LORUN = "task == 'cs' and method == 'lorun'"


def test_fewer_bytes_and_flops_are_improvements(real: ResultSet) -> None:
    better = with_table(real, "accounting", LORUN, inference_total=17_000_000, flops=8_000_000_000)
    for check in ("bytes", "flops"):
        found = verdicts(real, better, check)
        assert "improved" in found
        assert "failed" not in found
        assert "failed" in verdicts(better, real, check)
    assert "failed" not in verdicts(better, real, "bytes", Limits(bytes=5.0))


@pytest.mark.parametrize("count", [50379, 50381])
def test_parameters_fail_if_they_rise_or_fall(real: ResultSet, count: int) -> None:
    other = with_table(real, "accounting", LORUN, parameters_network=count)
    assert "failed" in verdicts(real, other, "parameters")
    assert "failed" not in verdicts(real, other, "parameters", Limits(parameters=0.01))


def test_counts_of_other_sizes_are_not_compared(real: ResultSet) -> None:
    found = compare([real], [with_table(real, "accounting", LORUN, step_batch=8, step_total=1)])
    [failed] = [one for one in found if one.verdict == "failed"]
    assert "counted for another `step_batch`: 16 -> 8" in failed.message


@pytest.mark.parametrize(("column", "check"), [("step_total", "bytes"), ("parameters_base", "parameters")])
def test_a_count_that_one_side_lacks(real: ResultSet, column: str, check: str) -> None:
    without = with_table(real, "accounting", LORUN, **{column: pd.NA})
    assert "failed" in verdicts(real, without, check)
    assert "unknown" in verdicts(without, real, check)


def test_a_method_that_is_missing_fails(real: ResultSet) -> None:
    accounts = real.accounting[real.accounting.method != "shared"]
    for without, check in ((replace(real, accounting=accounts), "bytes"), (only(real, "method != 'shared'"), "rows")):
        assert "failed" in verdicts(real, without, check)
        assert "failed" not in {one.verdict for one in compare([without], [real])}


def test_tables_that_are_missing(real: ResultSet) -> None:
    bare = replace(real, accounting=pd.DataFrame(), timing=real.timing.iloc[:0])
    assert verdicts(real, bare, "bytes") == {"failed"}
    assert verdicts(bare, real, "bytes") == {"unknown"}
    assert verdicts(real, bare, "time") == {"noted"}
    assert verdicts(real, bare, "time", Limits(time=5.0)) == {"unknown"}


def test_a_training_that_diverges_fails_and_one_that_completes_improves(real: ResultSet) -> None:
    diverged = with_status(real, f"{LORUN} and seed == 1", "diverged")
    [failed] = [found for found in compare([real], [diverged]) if found.verdict == "failed"]
    assert (failed.check, failed.subject) == ("status", "cs/r25/lorun seed 1")
    assert failed.message == "diverged; completed in the reference"
    assert verdicts(diverged, real, "status") == {"improved"}


def test_with_one_seed_a_score_may_fall_by_the_tolerance(real: ResultSet) -> None:
    single = only(real, "seed == 0")
    for loss, expected in ((0.25, False), (0.35, True)):
        worse = only(trained_anew(real, np.random.default_rng(0), 0.0, loss=loss), "seed == 0")
        assert ("failed" in verdicts(single, worse, "scores")) is expected


def test_only_metrics_with_a_default_tolerance_are_tested(real: ResultSet) -> None:
    """Others leave the tests of PSNR as strict as they are."""
    extra = real.rows[real.rows.metric == "ssim"].assign(metric="vif")
    reference = replace(real, rows=pd.concat([real.rows, extra], ignore_index=True))
    worse = trained_anew(reference, np.random.default_rng(0), 0.3, loss=0.1)
    found = [one for one in compare([reference], [worse]) if one.check == "scores"]
    assert {one.verdict for one in found if "VIF" in one.message and "no test" in one.message} == {"unknown"}
    without = replace(worse, rows=worse.rows[worse.rows.metric != "vif"])
    assert [one for one in found if "VIF" not in one.message] == [
        one for one in compare([real], [without]) if one.check == "scores"
    ]
    assert {protocol.metrics[0] for protocol in PROTOCOLS.values()} <= set(TOLERANCE)


def test_without_unchanged_weights_there_is_no_protocol_check(real: ResultSet) -> None:
    trained = only(real, "steps > 0")
    assert verdicts(trained, trained_anew(trained, np.random.default_rng(0), 0.0), "protocol") == set()


def test_times_fail_only_if_a_limit_is_set(real: ResultSet) -> None:
    slower = with_table(real, "timing", LORUN, median_ms=2000.0)
    assert verdicts(real, slower, "time") == {"noted"}
    assert "failed" in verdicts(real, slower, "time", Limits(time=50.0))
    twice = replace(real, timing=real.timing.assign(median_ms=2 * real.timing.median_ms))  # a slower machine
    assert verdicts(real, twice, "time", Limits(time=1.0)) == {"passed"}


def test_result_sets_are_matched_by_name(real: ResultSet) -> None:
    one, other = replace(real, name="one"), replace(real, name="other")
    found = compare([one, other], [one, replace(real, name="third")])
    assert {(found.subject, found.verdict) for found in found if found.verdict in ("failed", "new")} == {
        ("other", "failed"),
        ("third", "new"),
    }
    with pytest.raises(LorunError, match="one side has several result sets"):
        compare([one, other], [one])
