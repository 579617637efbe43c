"""Noise of the right size on every image, and a one-stage network that is nothing but its denoiser."""

import numpy as np
import pytest
import torch
from tiny import PROFILE

from lorun.errors import LorunError
from lorun.physics.denoising import DenoisingConfig
from lorun.profiles import Profile
from lorun.system import build_system, set_recompute, training_physics


def grey_levels(y):
    """The standard deviation of the noise on each image of zeros."""
    return y.flatten(1).std(1) * 255


def test_what_is_scored_has_the_noise_that_the_setting_names_and_always_the_same():
    physics = DenoisingConfig(noise=25, noise_range=(0, 50)).build()
    x = torch.zeros(3, 1, 64, 64)
    torch.testing.assert_close(grey_levels(physics(x)), torch.full((3,), 25.0), rtol=0.05, atol=0)
    assert torch.equal(physics(x), physics.at(64, 64)(x))
    other = DenoisingConfig(noise=25, noise_seed=1).build()
    assert not torch.equal(physics(x), other(x))


def test_each_image_of_a_training_step_has_a_level_of_its_own_from_the_whole_range():
    physics = DenoisingConfig(noise=25, noise_range=(10, 40)).build()
    levels = grey_levels(physics.for_training((32, 32), np.random.default_rng(0))(torch.zeros(400, 1, 32, 32)))
    assert 9 < levels.min() < 11
    assert 38 < levels.max() < 42.5
    # Uniform: each third of the range has about a third of the images.
    thirds = torch.histc(levels, bins=3, min=10, max=40)
    assert (thirds > 400 / 3 * 0.75).all()
    again = grey_levels(physics.for_training((32, 32), np.random.default_rng(1))(torch.zeros(400, 1, 32, 32)))
    assert not torch.equal(levels, again)


def test_without_a_range_it_trains_at_the_level_that_is_scored():
    physics = DenoisingConfig(noise=15).build().for_training((64, 64), np.random.default_rng(0))
    torch.testing.assert_close(
        grey_levels(physics(torch.zeros(3, 3, 64, 64))), torch.full((3,), 15.0), rtol=0.05, atol=0
    )


def test_it_knows_the_level_of_each_measurement_that_it_makes():
    physics = DenoisingConfig(noise=25, noise_range=(10, 40)).build()
    step = physics.for_training((64, 64), np.random.default_rng(0))
    y = step(torch.zeros(20, 1, 64, 64))
    level = step.noise_level(y)
    assert level.shape == (20, 1, 1, 1)
    torch.testing.assert_close(grey_levels(y), 255 * level.flatten(), rtol=0.06, atol=0)
    assert len(set(level.flatten().tolist())) == 20
    torch.testing.assert_close(physics.noise_level(y), torch.full((20, 1, 1, 1), 25 / 255))


def test_a_denoiser_with_a_noise_map_gets_the_level_of_each_training_image(known):
    system, physics, levels_seen = known
    x = torch.full((6, 1, 16, 16), 0.5)
    system(x, physics)
    levels = levels_seen[0].flatten()
    assert len(set(levels.tolist())) == 6
    noise = (physics(x) - x).flatten(1).std(1)
    torch.testing.assert_close(levels, noise, rtol=0.2, atol=0)


def test_the_noise_map_is_learned_from(known):
    system, physics, _ = known
    head = system.network.denoisers[0].head.weight
    assert head.shape[1] == 2  # the image, and the level
    (system(torch.rand(2, 1, 16, 16), physics) ** 2).mean().backward()
    assert head.grad[:, 1].abs().max() > 0


@pytest.fixture
def known():
    """A one-stage network with a noise map, the operator of a training step, and the levels that the denoiser gets."""
    task = {**PROFILE["tasks"]["cs"], "physics": {"name": "denoising", "noise_map": True}, "strategies": ["lorun"]}
    task |= {"settings": {"gray": {"noise_range": [5, 50]}}, "baselines": []}
    profile = Profile.model_validate({**PROFILE, "tasks": {"denoise": task}})
    system = build_system(profile.experiment("denoise", "gray", "pretrain", 0))
    levels_seen = []
    system.network.denoisers[0].register_forward_pre_hook(lambda _, given: levels_seen.append(given[1]))
    return system, training_physics(system, (16, 16)), levels_seen


def test_adapters_and_recomputed_stages_get_the_same_levels():
    task = {**PROFILE["tasks"]["cs"], "physics": {"name": "denoising", "noise_map": True}, "baselines": []}
    task |= {"settings": {"gray": {"noise_range": [5, 50]}}, "strategies": ["lorun", "shared", "block_k"]}
    profile = Profile.model_validate({**PROFILE, "tasks": {"denoise": task}})
    for method in task["strategies"]:
        system = build_system(profile.experiment("denoise", "gray", method, 0))
        physics = training_physics(system, (16, 16))
        x = torch.rand(2, 1, 16, 16)
        estimates, gradients = [], []
        for recompute in ("none", "stage"):
            assert set_recompute(system.network, recompute) == recompute
            system.zero_grad()
            estimates.append(system(x, physics))
            estimates[-1].square().mean().backward()
            gradients.append({name: p.grad.clone() for name, p in system.named_parameters() if p.grad is not None})
        assert torch.equal(*estimates)
        assert gradients[0].keys() == gradients[1].keys() != set()
        torch.testing.assert_close(gradients[0], gradients[1])


def test_the_learned_levels_of_shared_sigma_and_those_of_the_measurement_exclude_each_other():
    task = {**PROFILE["tasks"]["cs"], "physics": {"name": "denoising", "noise_map": True}, "baselines": []}
    task |= {"settings": {"gray": {}}, "strategies": ["shared_sigma"]}
    profile = Profile.model_validate({**PROFILE, "tasks": {"denoise": task}})
    with pytest.raises(LorunError, match="the stages learn their noise levels, and the operator gives one too"):
        build_system(profile.experiment("denoise", "gray", "shared_sigma", 0))


def test_the_first_estimate_is_the_measurement_and_the_one_stage_network_its_denoiser():
    task = {**PROFILE["tasks"]["cs"], "physics": {"name": "denoising"}, "settings": {"gray": {"noise_range": [0, 50]}}}
    profile = Profile.model_validate({**PROFILE, "tasks": {"denoise": {**task, "baselines": []}}})
    system = build_system(profile.experiment("denoise", "gray", "pretrain", 0))
    physics = training_physics(system, (16, 16))
    y = physics(torch.rand(2, 1, 16, 16))
    assert torch.equal(physics.initial_reconstruction(y), y)
    assert torch.equal(system.network(y, physics), system.network.denoisers[0](y))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise_range": [50, 0]}, r"`noise_range` \(=\[50.0, 0.0\]\) must be \[low, high\]"),
        ({"noise_range": [0, 256]}, "less than or equal to 255"),
        ({"noise": -1}, "greater than or equal to 0"),
    ],
)
def test_impossible_noise_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DenoisingConfig(**options)
