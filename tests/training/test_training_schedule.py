"""The learning rate is a function of the step: a linear warm-up, then a cosine."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lorun.config import TrainingConfig
from lorun.training.schedule import learning_rate


def config(steps: int, peak: float = 1e-3, final: float = 1e-5, warmup: int = 0) -> TrainingConfig:
    return TrainingConfig(steps=steps, learning_rate=peak, final_learning_rate=final, warmup_steps=warmup)


@st.composite
def schedules(draw: st.DrawFn) -> tuple[int, TrainingConfig]:
    """A number of steps and a configuration that fits it."""
    total = draw(st.integers(1, 300))
    peak = draw(st.floats(1e-8, 10))
    return total, config(total, peak, peak * draw(st.floats(0, 1)), draw(st.integers(0, total)))


@given(schedules())
def test_the_rate_stays_between_nothing_and_the_peak(schedule: tuple[int, TrainingConfig]) -> None:
    total, config = schedule
    rates = [learning_rate(done, config) for done in range(total)]
    assert all(0 <= rate <= config.learning_rate * (1 + 1e-12) for rate in rates)


@given(schedules())
def test_up_during_the_warm_up_and_down_after_it(schedule: tuple[int, TrainingConfig]) -> None:
    total, config = schedule
    rates = [learning_rate(done, config) for done in range(total)]
    rising, falling = rates[: config.warmup_steps], rates[config.warmup_steps :]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)


@given(schedules())
def test_the_last_step_has_the_final_rate(schedule: tuple[int, TrainingConfig]) -> None:
    total, config = schedule
    assume(total - config.warmup_steps >= 2)  # one step has no room to fall
    assert learning_rate(total - 1, config) == pytest.approx(config.final_learning_rate, abs=1e-15)


@given(schedules(), st.randoms())
def test_the_rate_depends_on_nothing_but_the_step(schedule: tuple[int, TrainingConfig], random) -> None:
    total, config = schedule
    in_order = [learning_rate(done, config) for done in range(total)]
    steps = list(range(total))
    random.shuffle(steps)
    assert {done: learning_rate(done, config) for done in steps} == dict(enumerate(in_order))


def test_the_warm_up_is_a_straight_line_to_the_peak() -> None:
    rates = [learning_rate(done, config(100, peak=1.0, warmup=4)) for done in range(5)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_the_cosine_is_half_way_down_in_the_middle() -> None:
    rates = [learning_rate(done, config(9, peak=3.0, final=1.0)) for done in (0, 2, 4, 6, 8)]
    assert rates == pytest.approx([3.0, 2 + 2**-0.5, 2.0, 2 - 2**-0.5, 1.0])


def test_a_single_step_has_the_peak_rate() -> None:
    assert learning_rate(0, config(1, peak=0.5)) == 0.5
