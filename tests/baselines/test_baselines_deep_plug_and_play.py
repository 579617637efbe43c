"""deep_plug_and_play: half-quadratic splitting with a pretrained denoiser."""

import pytest
import torch
from torch import nn

from lorun import plugins
from lorun.errors import LorunError
from lorun.physics.block_cs import BlockCS
from lorun.physics.blur_downsample import BlurDownsampleConfig
from lorun.physics.cassi import CASSIConfig
from lorun.unfolding import UnfoldingNetwork, initial_reconstruction

F64 = torch.float64


class Recorder(nn.Module):
    """z times a number; remembers the noise levels that it gets."""

    def __init__(self, gain=1.0):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain, dtype=F64))
        self.levels = []

    def forward(self, z, sigma):
        self.levels.append(sigma)
        return self.gain * z


def splitting(gain=1.0, physics=None, noise_map=True, **options):
    base = UnfoldingNetwork(lambda _: Recorder(gain), "block1", 1, noise_map=noise_map)
    return plugins.build("deep_plug_and_play", physics or blur(), 1, options, base)


def levels(noise, **options):
    """Noise levels of all steps in grey levels, (step, image), for the noise of each image."""
    found = splitting(**options).noise_levels(torch.tensor(noise, dtype=F64).view(-1, 1, 1, 1) / 255)
    return 255 * torch.stack([level.flatten() for level in found])


def image(*shape, seed=0):
    return torch.rand(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def blur(**said):
    said = {"scale": 2, "width": 0.8, "modcrop": None, **said}
    return BlurDownsampleConfig(**said).build(F64)


# The levels


@pytest.mark.parametrize(
    ("noise", "options", "expected"),
    [
        ([0.0], {"iterations": 5, "first": 48, "last": 3}, [[48], [24], [12], [6], [3]]),
        ([1.0, 12.0, 60.0], {"iterations": 3, "first": 48, "last": 3}, [[48, 48, 60], [12, 24, 60], [3, 12, 60]]),
        ([0.0], {"iterations": 1, "first": 48, "last": 3}, [[48]]),
    ],
    ids=["geometric", "down to the noise of each measurement", "one step"],
)
def test_noise_levels(noise, options, expected):
    torch.testing.assert_close(levels(noise, **options), torch.tensor(expected, dtype=F64))


# The steps


def test_the_steps_are_those_of_the_definition():
    physics = blur(noise=7.65).at(8, 6)
    n = 48
    a = physics.A(torch.eye(n, dtype=F64).reshape(n, 1, 8, 6)).flatten(1).T  # (m, n)
    y = image(1, 1, 4, 3)
    network = splitting(0.9, iterations=3, weight=0.4, first=40.0, last=5.0, least_noise=0.5)
    found = network(y, physics)
    expected = [40.0, (40 * 7.65) ** 0.5, 7.65]  # not below the noise
    z = initial_reconstruction(y, physics).flatten()
    for sigma in expected:
        alpha = 0.4 * (7.65 / sigma) ** 2
        z = 0.9 * torch.linalg.solve(a.T @ a + alpha * torch.eye(n), a.T @ y.flatten() + alpha * z)
    torch.testing.assert_close(found.flatten(), z)
    assert [255 * level.item() for level in network.denoisers[0].levels] == pytest.approx(expected)


def test_the_assumed_noise_stands_in_where_there_is_none():
    network = splitting(0.9, iterations=2, last=4.0, least_noise=0.3)
    quiet, noisy = blur().at(8, 8), blur(noise=0.3).at(8, 8)
    y = image(1, 1, 4, 4)
    assert torch.equal(network(y, quiet), network(y, noisy))
    assert not torch.equal(network(y, quiet), network(y, blur(noise=8).at(8, 8)))


@pytest.mark.parametrize(
    ("physics", "size", "channels"),
    [
        (blur(), (8, 6), 3),
        (blur(scale=1, initial="adjoint"), (7, 9), 1),
        (BlockCS(image(4, 16) - 0.5, initial="adjoint", dtype=F64), (8, 4), 1),
        (CASSIConfig(bands=3, mask_side=8, initial="adjoint").build(F64), (6, 5), 3),
    ],
    ids=["super-resolution", "deblurring", "compressed sensing", "CASSI"],
)
def test_with_a_denoiser_that_changes_nothing_it_ends_at_the_nearest_image_that_explains_the_measurement(
    physics, size, channels
):
    physics = physics.at(*size)
    x = image(1, channels, *size)
    y = physics.A(x)
    start = initial_reconstruction(y, physics)
    n = x.numel()
    a = physics.A(torch.eye(n, dtype=F64).reshape(n, channels, *size)).flatten(1).T  # (m, n)
    expected = start.flatten() + torch.linalg.pinv(a) @ (y - physics.A(start)).flatten()
    found = splitting(iterations=40, weight=1e-3)(y, physics)
    torch.testing.assert_close(found.flatten(), expected, rtol=0, atol=1e-5)
    assert (start.flatten() - expected).abs().max() > 1e-2


def test_each_image_of_a_batch_is_restored_as_it_is_alone():
    physics = blur(noise=5).at(8, 8)
    y = image(3, 1, 4, 4)
    network = splitting(0.9)
    together = network(y, physics)
    for one in range(3):
        torch.testing.assert_close(together[one : one + 1], network(y[one : one + 1], physics))


def test_shot_noise_which_has_no_one_level_is_refused():
    physics = CASSIConfig(bands=3, mask_side=8, noise="shot").build(F64).at(6, 5)
    with pytest.raises(LorunError, match="shot noise has no one level"):
        splitting()(image(1, 1, 6, 9), physics)


def test_a_base_without_a_noise_level_input_is_refused():
    with pytest.raises(LorunError, match="base of deep_plug_and_play needs a noise level input: train it in a setting"):
        splitting(noise_map=False)


def test_it_takes_the_denoiser_of_a_trained_base():
    network = splitting()
    network.load_base({"denoisers.0.gain": torch.tensor(0.3, dtype=F64), "step_sizes": torch.ones(1)}, step_size=False)
    assert network.denoisers[0].gain == 0.3
    assert not any(parameter.requires_grad for parameter in network.parameters())
    with pytest.raises(LorunError, match="the base does not fit at `gain`"):
        network.load_base({})


@pytest.mark.parametrize(
    ("options", "message"), [({"wieght": 1}, "unknown key `wieght`. Did you mean `weight`"), ({"weight": 0}, r"\(=0\)")]
)
def test_wrong_options(options, message):
    with pytest.raises(LorunError, match=message):
        plugins.check_options("deep_plug_and_play", options)
