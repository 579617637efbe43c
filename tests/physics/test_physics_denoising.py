"""Noise of the right size on every image, and a one-stage network that is nothing but its denoiser."""

import numpy as np
import pytest
import torch
from tiny import PROFILE

from lorun.config import DenoisingConfig, Profile
from lorun.methods import build_system, training_physics
from lorun.physics import build_physics


def grey_levels(y):
    """The standard deviation of the noise on each image of zeros."""
    return y.flatten(1).std(1) * 255


def test_what_is_scored_has_the_noise_that_the_setting_names_and_always_the_same():
    physics = build_physics(DenoisingConfig(noise=25, noise_range=(0, 50)))
    x = torch.zeros(3, 1, 64, 64)
    torch.testing.assert_close(grey_levels(physics(x)), torch.full((3,), 25.0), rtol=0.05, atol=0)
    assert torch.equal(physics(x), physics.at(64, 64)(x))
    other = build_physics(DenoisingConfig(noise=25, noise_seed=1))
    assert not torch.equal(physics(x), other(x))


def test_each_image_of_a_training_step_has_a_level_of_its_own_from_the_whole_range():
    physics = build_physics(DenoisingConfig(noise=25, noise_range=(10, 40)))
    levels = grey_levels(physics.for_training(32, np.random.default_rng(0))(torch.zeros(400, 1, 32, 32)))
    assert 9 < levels.min() < 11
    assert 38 < levels.max() < 42.5
    # Uniform: each third of the range has about a third of the images.
    thirds = torch.histc(levels, bins=3, min=10, max=40)
    assert (thirds > 400 / 3 * 0.75).all()
    again = grey_levels(physics.for_training(32, np.random.default_rng(1))(torch.zeros(400, 1, 32, 32)))
    assert not torch.equal(levels, again)


def test_without_a_range_it_trains_at_the_level_that_is_scored():
    physics = build_physics(DenoisingConfig(noise=15)).for_training(64, np.random.default_rng(0))
    torch.testing.assert_close(
        grey_levels(physics(torch.zeros(3, 3, 64, 64))), torch.full((3,), 15.0), rtol=0.05, atol=0
    )


def test_the_first_estimate_is_the_measurement_and_the_one_stage_network_its_denoiser():
    said = {**PROFILE["tasks"]["cs"], "physics": {"name": "denoising"}, "settings": {"gray": {"noise_range": [0, 50]}}}
    profile = Profile.model_validate({**PROFILE, "tasks": {"denoise": {**said, "baselines": []}}})
    system = build_system(profile.experiment("denoise", "gray", "pretrain", 0))
    physics = training_physics(system, 16)
    y = physics(torch.rand(2, 1, 16, 16))
    assert torch.equal(physics.initial_estimate(y), y)
    assert torch.equal(system.network(y, physics), system.network.denoisers[0](y))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"noise_range": [50, 0]}, r"`noise_range` \(=\[50.0, 0.0\]\) must be \[low, high\]"),
        ({"noise_range": [0, 256]}, "less than or equal to 255"),
        ({"noise": -1}, "greater than or equal to 0"),
    ],
)
def test_impossible_noise_is_refused(said, message):
    with pytest.raises(ValueError, match=message):
        DenoisingConfig(**said)
