"""Differences between methods: pairs, the interval over images and seeds, and how often it is right."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import ttest_1samp, ttest_ind

from lorun.results.differences import BETTER, NOT_SHOWN, WORSE, differences, interval
from lorun.results.store import make_table

PLACE = {"task": "cs", "dataset": "set11", "setting": "r25", "protocol": "cs_float_y"}


def rows_of(method: str, values, degradation=None, protocol="cs_float_y", metric="psnr", first_seed=0):
    """A row per image (outer) and seed (inner)."""
    labels = {**PLACE, "protocol": protocol, "metric": metric, "method": method, "degradation": degradation}
    return [
        {**labels, "image": f"image{image}", "seed": first_seed + seed, "value": value}
        for image, seeds in enumerate(values)
        for seed, value in enumerate(seeds)
    ]


def found(*rows, methods=("block_k", "lorun"), protocols=("cs_float_y",), simulated=False) -> pd.DataFrame:
    lines = [
        {**PLACE, "protocol": protocol, "simulated": simulated, "method": method}
        for protocol in protocols
        for method in methods
    ]
    return differences(make_table("summary", lines), make_table("rows", [line for part in rows for line in part]))


values = st.tuples(st.integers(1, 6), st.integers(1, 4)).flatmap(
    lambda shape: arrays(float, shape, elements=st.floats(-9, 9, width=16))
)


@given(values)
@settings(deadline=None, max_examples=60)
def test_the_other_way_round_everything_has_the_other_sign(values):
    one, other = interval(values), interval(-values)
    assert other.mean == -one.mean
    assert other.least == one.least
    if one.low is not None:
        assert (other.low, other.high) == (-one.high, -one.low)
        assert {one.verdict, other.verdict} in ({BETTER, WORSE}, {NOT_SHOWN})


@given(values, st.floats(-9, 9, width=16))
@settings(deadline=None, max_examples=60)
def test_a_shift_of_all_values_shifts_the_interval(values, shift):
    one, other = interval(values), interval(values + shift)
    assert other.mean == pytest.approx(one.mean + shift, abs=2e-6)
    if one.low is not None:
        assert (other.low, other.high) == pytest.approx((one.low + shift, one.high + shift), abs=2e-6)
        assert other.least == pytest.approx(one.least, abs=2e-6)


@pytest.mark.parametrize("shape", [(9, 1), (1, 9)], ids=["one seed", "one image"])
def test_with_one_seed_or_one_image_it_is_that_of_a_t_test(shape):
    values = np.random.default_rng(0).normal(0.4, 1, shape)
    expected = ttest_1samp(values.ravel(), 0).confidence_interval(0.95)
    assert (interval(values).low, interval(values).high) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_a_single_value_has_no_interval():
    assert interval(np.array([[-3.0]])) == (-3.0, None, None, None)
    assert interval(np.array([[-3.0]])).verdict == NOT_SHOWN


DESIGNS = [(4, 2), (68, 2), (11, 3), (14, 5)]
EFFECTS = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (0.5, 0.2, 0.1)]
REPETITIONS = 1000


@pytest.mark.parametrize("design", DESIGNS, ids=str)
@pytest.mark.parametrize("effects", EFFECTS, ids=str)
def test_the_interval_covers_the_true_difference_and_the_least_one_is_shown_as_often_as_it_says(design, effects):
    """Simulated differences with effects of images, seeds and both together. Three standard errors of a simulated
    rate are 0.02 at 0.95, and 0.04 at 0.8."""
    images, seeds = design
    of_images, of_seeds, of_both = effects
    random = np.random.default_rng([images, seeds])
    noise = of_images * random.standard_normal((REPETITIONS, images, 1)) + of_seeds * random.standard_normal(
        (REPETITIONS, 1, seeds)
    )
    intervals = [interval(one) for one in noise + of_both * random.standard_normal((REPETITIONS, images, seeds))]
    covered = np.mean([one.low <= 0 <= one.high for one in intervals])
    assert covered >= 0.93
    least = np.sqrt(np.mean([one.least**2 for one in intervals]))  # its square is linear in the variances
    shown = np.mean([one.low + least > 0 for one in intervals])
    assert 0.76 <= shown <= 0.92
    if sum(effect > 0 for effect in effects) == 1 and not of_both:
        assert covered <= 0.97  # exact where one effect is alone


def test_methods_are_paired_by_image_and_seed():
    """The difficulty of an image and the luck of a seed cancel: unpaired, nothing would be shown."""
    hard, lucky = np.array([[20.0], [30.0], [40.0]]), np.array([[0.0, 3.0]])
    noise = np.array([[0.0, 0.01], [0.02, 0.0], [0.0, 0.01]])
    block_k, lorun = hard + lucky, hard + lucky - 0.5 + noise
    (line,) = found(rows_of("block_k", block_k), rows_of("lorun", lorun)).to_dict("records")
    assert line["mean"] == pytest.approx(-0.5 + noise.mean(), abs=1e-6)
    assert (line["method"], line["reference"], line["verdict"]) == ("lorun", "block_k", WORSE)
    assert (line["images"], line["seeds"], line["metric"]) == (3, 2, "psnr")
    assert ttest_ind(lorun.ravel(), block_k.ravel()).pvalue > 0.9
    swapped = found(rows_of("block_k", block_k), rows_of("lorun", lorun[::-1])).to_dict("records")
    assert swapped[0]["mean"] == line["mean"]
    assert swapped[0]["verdict"] == NOT_SHOWN


def test_degradations_are_averaged_within_an_image():
    one = rows_of("block_k", [[20.0], [30.0]], "1") + rows_of("block_k", [[22.0], [32.0]], "2")
    other = rows_of("lorun", [[20.0], [31.0]], "1") + rows_of("lorun", [[23.0], [33.0]], "2")
    (line,) = found(one, other).to_dict("records")
    expected = interval(np.array([[0.5], [1.0]]))
    assert (line["mean"], line["low"], line["high"]) == (expected.mean, expected.low, expected.high)
    assert line["images"] == 2


def test_only_images_and_seeds_of_both_methods_count():
    one, other = rows_of("block_k", [[20, 21], [30, 31]]), rows_of("lorun", [[25, 99], [35, 99]], first_seed=1)
    (line,) = found(one, other).to_dict("records")
    assert (line["mean"], line["images"], line["seeds"]) == (4, 2, 1)
    (line,) = found(one, rows_of("lorun", [[21, 22]])).to_dict("records")
    assert (line["mean"], line["images"], line["seeds"]) == (1, 1, 2)
    assert found(one, rows_of("lorun", [[1.0]], first_seed=7)).empty
    assert found(one).empty


def test_every_method_meets_block_k_and_lorun_meets_shared_sigma_too():
    methods = ["block_k", "shared_sigma", "lorun", "lorun_random", "linear_mmse"]
    rows = [rows_of(method, [[20.0 + place], [30.0]]) for place, method in enumerate(methods)]
    table = found(*rows, methods=methods, simulated=True)
    assert list(zip(table.method, table.reference, strict=True)) == [
        ("shared_sigma", "block_k"),
        ("lorun", "block_k"),
        ("lorun", "shared_sigma"),
        ("lorun_random", "block_k"),
        ("lorun_random", "shared_sigma"),
        ("linear_mmse", "block_k"),
    ]
    assert table.simulated.all()
    assert table["mean"].tolist() == [0.5, 1, 0.5, 1.5, 1, 2]


def test_protocols_do_not_mix_and_other_metrics_do_not_count():
    both = ["cs_float_y", "cs_round_y"]
    scores = {"block_k": [[20.0], [24.0]], "lorun": [[22.0], [26.0]]}
    rows = [rows_of(method, values, protocol=name) for method, values in scores.items() for name in both]
    rows += [rows_of(method, [[0.5], [0.5]], metric="ssim") for method in ("block_k", "lorun")]
    table = found(*rows, protocols=both)
    assert table.protocol.tolist() == both
    assert table["mean"].tolist() == [2, 2]
