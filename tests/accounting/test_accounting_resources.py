"""What a training asks from a scheduler: at least what it is predicted to need."""

import pytest
from tiny import PROJECT, with_training

from lorun.accounting.flops import step_flops
from lorun.accounting.prediction import predict_steps
from lorun.accounting.resources import FLOPS, GPU_START_MB, START_MB, START_MINUTES, training_memory, training_minutes
from lorun.profiles import load_profile


@pytest.mark.parametrize("place", [("cs", "r25", "block1"), ("sr", "x2", "shared_sigma"), ("cassi", "sim", "block_k")])
def test_memory_is_an_upper_bound_of_the_counted_bytes(place):
    experiment = load_profile(PROJECT / "config/base.yaml").experiment(*place, 0)
    training = experiment.training
    counted = predict_steps(experiment, training.batch, training.patch_size)["none"].total / 1e6
    assert counted <= training_memory(experiment) - START_MB <= 5 * counted


def test_memory_follows_the_sizes_of_a_step_and_of_the_network(tiny_profile):
    experiment = tiny_profile.experiment("cs", "r25", "block_k", 0)
    large = with_training(experiment, batch=1000, patch=64)
    assert (
        training_memory(experiment) < training_memory(with_training(large, recompute="stage")) < training_memory(large)
    )
    assert training_memory(large, gpu=True) - GPU_START_MB < 10  # activations are not in the memory of the host
    assert training_memory(with_training(large, recompute="auto", memory_budget=300.0)) - START_MB in range(300, 310)


def test_time_follows_the_budget_and_the_threads(tiny_profile):
    experiment = with_training(tiny_profile.experiment("cs", "r25", "block_k", 0), steps=None, budget=6e13)
    minutes = 6e13 / FLOPS["cpu"] / 60
    assert training_minutes([experiment]) == START_MINUTES + minutes
    assert training_minutes([experiment] * 2) == START_MINUTES + 2 * minutes
    assert training_minutes([with_training(experiment, cpu_threads=4)]) == START_MINUTES + minutes / 4
    assert training_minutes([experiment], gpu=True) == START_MINUTES + 1


@pytest.mark.parametrize("method", ["block1", "block_k"])
def test_time_of_steps_is_an_upper_bound_of_their_counted_flops(tiny_profile, method):
    experiment = with_training(tiny_profile.experiment("cs", "r25", method, 0), steps=1_000_000)
    counted = 1_000_000 * step_flops(experiment) / FLOPS["cpu"] / 60
    assert counted <= training_minutes([experiment]) - START_MINUTES <= 5 * counted + 1


def test_what_is_not_trained_asks_for_its_start(tiny_profile):
    experiment = tiny_profile.experiment("cs", "r25", "linear_mmse", 0)
    assert (training_memory(experiment), training_minutes([experiment])) == (START_MB, START_MINUTES)
