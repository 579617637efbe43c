"""Whether a result set reproduces the committed one."""

import re
from dataclasses import replace

import numpy as np
import pytest
from planted import only, trained_anew, with_status, with_table

from lorun.gate.reproduction import SHOWN, reproduction
from lorun.results.store import ResultSet

LORUN = "task == 'cs' and method == 'lorun'"


def test_identical_whatever_the_machine_the_commit_and_the_time(real: ResultSet) -> None:
    origin = {"commit": "0" * 40, "trained_commit": "1" * 40, "dirty": True, "device": "some GPU", "threads": 7}
    elsewhere = replace(
        real,
        runs=real.runs.assign(**origin, versions="torch=9"),
        timing=real.timing.assign(seconds=1.0, median_ms=2.0),
        rows=real.rows.sample(frac=1, random_state=0),
    )
    found = reproduction(real, elsewhere)
    assert found.verdict == "identical"
    assert found.lines == [
        f"Identical to results/real as committed ({real.version.cited}): "
        f"all {len(real.rows)} scores and the counts, digit for digit"
    ]


def test_other_trainings_are_equal_within_noise(real: ResultSet) -> None:
    found = reproduction(real, trained_anew(real, np.random.default_rng(0), 0.01))
    assert found.verdict == "equal within noise"
    [line] = found.lines
    assert line.startswith(f"Equal within noise to results/real as committed (version {real.version.version}, scores ")
    [(moved, rows)] = re.findall(r"(\d+) of (\d+) scores moved", line)
    assert 0 < int(moved) < int(rows) == len(real.rows)


@pytest.mark.parametrize("loss", [1.0, -1.0])
def test_a_score_that_fell_or_rose_is_different(real: ResultSet, loss: float) -> None:
    """With several seeds, by a test; with one, by the tolerance."""
    other = trained_anew(real, np.random.default_rng(0), 0.01, loss=loss)
    for one, two in ((real, other), (only(real, "seed == 0"), only(other, "seed == 0"))):
        found = reproduction(one, two)
        assert found.verdict == "different"
        assert {difference.check for difference in found.differences} == {"scores"}


def test_differences_are_named_the_first_few_and_counted(real: ResultSet) -> None:
    without = only(real, "method != 'lorun'")
    found = reproduction(real, without)
    first, *rest = found.lines
    count = len(found.differences)
    assert first.startswith("DIFFERENT from results/real as committed (")
    lost = (real.rows.method == "lorun").sum()
    assert first.endswith(f"{count} differences, {lost} of {len(real.rows)} scores moved")
    assert rest[0] == "  failed: cassi/sim/lorun seed 0, 1: missing; completed in the reference"
    assert len(rest) == min(count, SHOWN) + (count > SHOWN)
    assert reproduction(without, real).verdict == "different"  # new rows


def test_counts_and_statuses_count(real: ResultSet) -> None:
    fewer = with_table(real, "accounting", LORUN, step_total=1_000)
    [difference, *_] = reproduction(real, fewer).differences
    assert (difference.check, difference.verdict) == ("bytes", "improved")
    diverged = with_status(real, f"{LORUN} and seed == 1", "diverged")
    assert reproduction(real, diverged).verdict == reproduction(diverged, real).verdict == "different"
