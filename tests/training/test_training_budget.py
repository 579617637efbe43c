"""Trainings of equal cost: the steps that a budget of counted FLOPs allows."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from lorun.accounting.flops import _FORMULAS, step_flops
from lorun.convolution import as_written
from lorun.errors import LorunError
from lorun.methods import STRATEGIES, Experiment
from lorun.profiles import Profile, load_profile
from lorun.training import Outcome, loop, train

CPU = torch.device("cpu")
BUDGET = 3.2e10  # 250 steps of ista_net_plus, 370 of block_k
ELSEWHERE = {"lorun_denoiser", "lorun_transfer"}  # they start from weights that another training made


def every_method(tiny_profile_file: Path, **training: Any) -> Profile:
    """Every strategy, and a baseline, with a budget instead of steps."""
    content = yaml.safe_load(tiny_profile_file.read_text())
    task = content["tasks"]["cs"]
    for name in ("steps", "phase1_steps"):
        del task["training"][name]
    task["training"] |= {"budget": BUDGET, "batch": 1, "patch": 8, "validate_every": 10**6, "checkpoint_every": 10**6}
    task["strategies"] = [name for name in STRATEGIES if name not in ELSEWHERE]
    task |= {"baselines": ["ista_net_plus"], "denoiser": {"name": "cnn", "width": 64, "depth": 4}}
    task["training"] |= training
    tiny_profile_file.write_text(yaml.safe_dump(content))
    return load_profile(tiny_profile_file)


@pytest.fixture
def profile(tiny_profile_file: Path) -> Profile:
    return every_method(tiny_profile_file)


def with_base(experiment: Experiment, runs: Path, data: Path) -> Outcome:
    if experiment.base is not None:
        with_base(experiment.base, runs, data)
    return train(experiment, runs=runs, data=data, device=CPU)


def test_any_two_methods_cost_the_same_pretraining_included(
    profile: Profile, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop, its bases and what they record are real; steps alone do nothing."""
    monkeypatch.setattr(loop, "training_step", lambda *_, **__: torch.zeros(()))
    outcomes = {e.method: with_base(e, tmp_path, tiny_data) for e in profile.experiments()}
    spent = {method: outcome.training_flops for method, outcome in outcomes.items()}
    assert len(spent) == len(STRATEGIES) - len(ELSEWHERE) + 1
    assert max(spent.values()) <= BUDGET
    assert min(spent.values()) > 0.99 * BUDGET, spent
    steps = {method: outcome.total_steps for method, outcome in outcomes.items()}
    assert steps["block1"] > steps["lorun"] > steps["block_k"]  # a stage costs less than three


def test_a_step_costs_what_was_counted(
    tiny_profile_file: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One real step of each method, pretrainings too, under PyTorch's counter."""
    profile = every_method(tiny_profile_file, budget=None, steps=4, phase1_steps=1)
    counted = []

    def step(*arguments: object, **options: object) -> torch.Tensor:
        if counted:
            return torch.zeros(())
        with as_written(), FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
            loss = original(*arguments, **options)
        counted.append(counter.get_total_flops())
        return loss

    original = loop.training_step
    monkeypatch.setattr(loop, "training_step", step)
    experiments = [e for e in profile.experiments() if e.training is not None]
    for experiment in [e for one in experiments for e in (*bases(one), one)]:
        counted.clear()
        train(experiment, runs=tmp_path, data=tiny_data, device=CPU)
        if counted:  # not trained before
            assert counted == [step_flops(experiment)], experiment.name


def bases(experiment: Experiment) -> list[Experiment]:
    """The bases of an experiment, the first trained first."""
    return [] if experiment.base is None else [*bases(experiment.base), experiment.base]


def test_phase_2_goes_on_where_its_base_ended(
    profile: Profile, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "training_step", lambda *_, **__: torch.zeros(()))
    experiment = profile.experiment("cs", "r25", "lorun", 0)
    base = with_base(experiment.base, tmp_path, tiny_data)
    training = loop._Training(experiment, tmp_path, tiny_data, CPU, loop.Group())
    assert training.first == base.steps > 0
    assert base.training_flops == pytest.approx(0.3 * BUDGET, rel=0.01)


def test_a_budget_below_one_step_is_refused(tiny_profile_file: Path, tiny_data: Path, tmp_path: Path) -> None:
    profile = every_method(tiny_profile_file, budget=1e6)
    with pytest.raises(LorunError, match=r"`budget` \(=1e\+06 FLOPs here\) is less than one step \(=1.\d+e\+08\)"):
        train(profile.experiment("cs", "r25", "ista_net_plus", 0), runs=tmp_path, data=tiny_data, device=CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 5}, "give either `budget` (counted FLOPs) or `steps`"),
        ({"budget": None}, "give either `budget` (counted FLOPs) or `steps`"),
        ({"phase1_steps": 5}, "`phase1_steps` goes with `steps`; with a budget it is `phase1_share`"),
        ({"phase1_share": 0.5}, "(=0.5): Input should be less than 0.5"),
    ],
)
def test_a_length_that_is_said_twice_or_not_at_all_is_refused(
    tiny_profile_file: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(LorunError) as error:
        every_method(tiny_profile_file, **change)
    assert message in str(error.value)
