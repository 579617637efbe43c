"""The t-tests of scores: equal to scipy where they are the textbook ones; pooling, pairing and error rates."""

import numpy as np
import pytest
from scipy import stats

from lorun.gate.statistics import holm, method_test, pooled_variance, task_test


def losses(*methods: list[float]) -> dict[str, np.ndarray]:
    return {f"method{index}": np.array(values) for index, values in enumerate(methods)}


def test_a_method_by_itself_is_a_t_test_of_one_sample() -> None:
    values = losses([0.3, 0.1, 0.25, 0.4])
    found = method_test(values, "method0", 0.05)
    expected = stats.ttest_1samp(values["method0"], 0.05, alternative="greater")
    assert found is not None
    assert found.fall == pytest.approx(expected.pvalue)


def test_a_task_is_a_t_test_over_its_trainings() -> None:
    values = losses([0.11, 0.09], [0.12, 0.10], [0.08, 0.12])
    found = task_test(values, 0.001)
    expected = stats.ttest_1samp(np.concatenate(list(values.values())), 0.001, alternative="greater")
    assert found is not None
    assert found.fall == pytest.approx(expected.pvalue)


def test_an_effect_of_a_seed_on_all_methods_counts_once() -> None:
    alike = task_test(losses(*[[0.2, 0.0]] * 6), 0.0)
    unlike = task_test(losses(*[[0.2, 0.0], [0.0, 0.2]] * 3), 0.0)
    assert alike is not None
    assert unlike is not None
    assert alike.error == pytest.approx(0.1)  # that of two means over methods, 0.2 and 0
    assert unlike.error < 0.04
    reference = losses(*[[26.2, 26.0]] * 6)
    fresh = task_test(losses(*[[0.1, 0.1]] * 6), 0.0, reference)
    assert fresh is not None
    assert fresh.error == pytest.approx(np.sqrt(2) * 0.1)


def test_variances_are_pooled_over_methods() -> None:
    variance, degrees = pooled_variance(losses([0.0, 0.2], [0.1, 0.3], [1.0, 1.2], [5.0]))
    assert variance == pytest.approx(0.02)
    assert degrees == pytest.approx(3)


def test_a_method_with_all_of_the_variance_adds_no_degrees_of_freedom() -> None:
    _, degrees = pooled_variance(losses([0.0, 0.001], [0.0, 0.001], [0.0, 0.001], [0.0, 2.0]))
    assert degrees == pytest.approx(1, abs=1e-3)


def test_degrees_of_freedom_are_right_on_average() -> None:
    random = np.random.default_rng(0)
    found = [pooled_variance(losses(*random.normal(size=(6, 3))))[1] for _ in range(2000)]
    assert np.mean(found) == pytest.approx(12, rel=0.12)  # they are cut off at 12


def test_a_noisy_method_is_judged_by_its_own_noise() -> None:
    noise = losses([0.0, 0.01], [0.0, 0.01], [0.3, 1.1])
    test = method_test(noise, "method2", 0.0)
    assert test is not None
    assert test.error == pytest.approx(0.4)


def test_one_seed_gives_no_test() -> None:
    values = losses([0.1], [0.2])
    assert pooled_variance(values)[1] == 0
    assert method_test(values, "method0", 0.0) is None
    assert task_test(values, 0.0) is None
    assert task_test(values, 0.0, values) is None


@pytest.mark.parametrize(("loss", "p"), [(0.1, 0.0), (0.001, 1.0), (-0.1, 1.0)])
def test_without_noise_a_loss_counts_if_it_exceeds_the_margin(loss: float, p: float) -> None:
    test = task_test(losses([loss, loss], [loss, loss]), 0.001)
    assert test is not None
    assert test.fall == p


def test_holm_gives_the_textbook_values() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_rate_of_false_alarms_is_the_level_of_the_tests() -> None:
    """2,000 comparisons without a loss, six methods of equal noise, two seeds: at 5 %, one in twenty may fail."""
    random = np.random.default_rng(1)
    noise = random.normal(size=(2000, 6, 2))
    other = random.normal(size=(2000, 6, 2))
    rates = {"method": 0, "paired": 0, "unpaired": 0}
    for before, after in zip(noise, other, strict=True):
        reference, values = losses(*before), losses(*(before - after))
        tests = {
            "method": method_test(values, "method0", 0.0, reference),
            "paired": task_test(values, 0.0),
            "unpaired": task_test(values, 0.0, reference),
        }
        for name, test in tests.items():
            assert test is not None
            rates[name] += test.fall <= 0.05
    for name, count in rates.items():
        assert 0.01 < count / 2000 < 0.06, name
