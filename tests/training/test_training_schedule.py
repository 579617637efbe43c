"""The learning rate is a function of the step: a linear warm-up, then a cosine. Adapters have their own."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from lorun.config import TrainingConfig
from lorun.config.training import AdapterTraining
from lorun.profiles import Profile
from lorun.step import make_optimizer, training_step
from lorun.system import build_system, training_physics
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
    rates = [learning_rate(done, total, config) for done in range(total)]
    assert all(0 <= rate <= config.learning_rate * (1 + 1e-12) for rate in rates)


@given(schedules())
def test_up_during_the_warm_up_and_down_after_it(schedule: tuple[int, TrainingConfig]) -> None:
    total, config = schedule
    rates = [learning_rate(done, total, config) for done in range(total)]
    rising, falling = rates[: config.warmup_steps], rates[config.warmup_steps :]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)


@given(schedules())
def test_the_last_step_has_the_final_rate(schedule: tuple[int, TrainingConfig]) -> None:
    total, config = schedule
    assume(total - config.warmup_steps >= 2)  # one step has no room to fall
    assert learning_rate(total - 1, total, config) == pytest.approx(config.final_learning_rate, abs=1e-15)


@given(schedules(), st.randoms())
def test_the_rate_depends_on_nothing_but_the_step(schedule: tuple[int, TrainingConfig], random) -> None:
    total, config = schedule
    in_order = [learning_rate(done, total, config) for done in range(total)]
    steps = list(range(total))
    random.shuffle(steps)
    assert {done: learning_rate(done, total, config) for done in steps} == dict(enumerate(in_order))


def test_the_warm_up_is_a_straight_line_to_the_peak() -> None:
    rates = [learning_rate(done, 100, config(100, peak=1.0, warmup=4)) for done in range(5)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_the_cosine_is_half_way_down_in_the_middle() -> None:
    rates = [learning_rate(done, 9, config(9, peak=3.0, final=1.0)) for done in (0, 2, 4, 6, 8)]
    assert rates == pytest.approx([3.0, 2 + 2**-0.5, 2.0, 2 - 2**-0.5, 1.0])


def test_a_single_step_has_the_peak_rate() -> None:
    assert learning_rate(0, 1, config(1, peak=0.5)) == 0.5


def test_adapters_have_a_multiple_of_the_rate_and_a_warm_up_of_their_own() -> None:
    own = config(10, peak=1.0, final=0.5, warmup=2).model_copy(
        update={"adapters": AdapterTraining(rate=3, warmup_steps=4)}
    )
    rates = [learning_rate(done, 10, own, adapters=True) for done in range(10)]
    assert rates[:5] == pytest.approx([0.75, 1.5, 2.25, 3, 3])
    assert rates[9] == pytest.approx(1.5)
    assert [learning_rate(done, 10, own) for done in range(4)] == pytest.approx([0.5, 1, 1, 1], abs=0.05)
    inherits = own.model_copy(update={"adapters": AdapterTraining(rate=3)})
    for done in range(10):
        assert learning_rate(done, 10, inherits, True) == pytest.approx(3 * learning_rate(done, 10, inherits))


def test_adapters_are_a_group_with_a_limit_of_their_own(tiny_profile: Profile) -> None:
    torch.manual_seed(0)  # gradients must be above both limits
    experiment = tiny_profile.experiment("cs", "r25", "lorun_random", 0)
    system = build_system(experiment)
    limits = {"clip_norm": 1e-3, "adapters": AdapterTraining(clip_norm=1e-5)}
    config = experiment.training.model_copy(update=limits)
    optimizer = make_optimizer(system, config, torch.device("cpu"))
    names = {id(parameter): name for name, parameter in system.named_parameters()}
    groups = {group["adapters"]: [names[id(p)] for p in group["params"]] for group in optimizer.param_groups}
    assert groups[False] == ["network.step_sizes"]
    assert groups[True] == [name for name, p in system.named_parameters() if "lora_" in name]
    training_step(system, training_physics(system, (16, 16)), torch.rand(2, 1, 16, 16), optimizer, config)
    norms = {group["adapters"]: norm(group["params"]) for group in optimizer.param_groups}
    assert norms == {False: pytest.approx(1e-3, rel=1e-3), True: pytest.approx(1e-5, rel=1e-3)}
    inherits = make_optimizer(system, config.model_copy(update={"adapters": AdapterTraining()}), torch.device("cpu"))
    assert [group["clip_norm"] for group in inherits.param_groups] == [1e-3, 1e-3]


def norm(parameters: list[torch.nn.Parameter]) -> float:
    """Norm of the gradients, after they were clipped."""
    return torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm().item()
