"""What every denoiser owes to the rest of the suite; those of new modules are tested too."""

import pytest
import torch
from torch import nn

from lorun.accounting.fake import fake_tensors
from lorun.adapters import adaptable_layers
from lorun.denoisers import DENOISERS

VARIANTS = [
    {"name": "unet", "width": 4, "levels": 1, "blocks": 2},
    {"name": "spectral", "width": 4, "levels": 1, "blocks": 2},
]
CONFIGS = [*(section.example() for section in DENOISERS), *map(DENOISERS.parse, VARIANTS)]
RESIDUAL = [config for config in CONFIGS if config.name != "fdncnn"]  # which estimates the image itself


@pytest.fixture(params=CONFIGS, ids=lambda config: config.name)
def make(request):
    def made(channels=1, noise_map=False):
        torch.manual_seed(0)
        return request.param.build(channels, noise_map)

    return made


of_the_residual = pytest.mark.parametrize("make", RESIDUAL, indirect=True, ids=lambda config: config.name)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (16, 16), (33, 20)])
@pytest.mark.parametrize("channels", [1, 3, 28])
def test_same_shape_out_for_any_size(make, size, channels):
    z = torch.rand(2, channels, *size)
    assert make(channels)(z).shape == z.shape


def test_gradients_reach_every_parameter_and_the_input(make):
    denoiser = make()
    z = torch.rand(1, 1, 16, 16, requires_grad=True)
    denoiser(z).square().sum().backward()
    for name, parameter in [*denoiser.named_parameters(), ("z", z)]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_lora_can_adapt_every_layer(make):
    """All numbers but those of depthwise convolutions and vectors are in layers that get an adapter."""
    denoiser = make(noise_map=True)
    depthwise = [m for m in denoiser.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert all(m.groups == m.in_channels == m.out_channels for m in depthwise)
    layers = adaptable_layers(denoiser).values()
    assert not set(depthwise) & set(layers)
    changed = {id(layer.weight) for layer in layers}
    left = {id(m.weight) for m in depthwise} | {id(p) for p in denoiser.parameters() if p.dim() <= 1}
    assert changed | left == {id(p) for p in denoiser.parameters()}


def test_double_precision(make):
    z = torch.rand(1, 1, 9, 7, generator=torch.Generator().manual_seed(0))
    denoiser = make()
    single, double = denoiser(z), denoiser.double()(z.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single)


@pytest.mark.parametrize("noise_map", [False, True])
def test_half_precision(make, noise_map):
    z = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    sigma = [torch.tensor(0.1)] if noise_map else []
    denoiser = make(3, noise_map)
    with torch.no_grad():
        change = denoiser(z, *sigma) - z
        with torch.autocast("cpu", torch.bfloat16):
            half = denoiser(z, *sigma) - z
    assert half.dtype == torch.float32  # that of z: the residual alone is rounded
    assert 0 < (half - change).norm() < 0.03 * change.norm()


def test_runs_on_tensors_without_values(make):
    with fake_tensors():
        z = torch.rand(2, 28, 13, 10)
        assert make(28)(z).shape == z.shape


def test_the_order_of_an_image_in_memory_does_not_matter(make):
    z = torch.rand(2, 3, 16, 12, generator=torch.Generator().manual_seed(0))
    denoiser = make(3)
    expected = denoiser(z)
    denoiser.to(memory_format=torch.channels_last)
    torch.testing.assert_close(denoiser(z.contiguous(memory_format=torch.channels_last)), expected)


def test_noise_level_is_an_input(make):
    denoiser = make(noise_map=True)
    z = torch.rand(1, 1, 8, 8)
    low, high = denoiser(z, torch.tensor(0.01)), denoiser(z, torch.tensor(0.5))
    assert not torch.equal(low, high)
    sigma = torch.tensor(0.1, requires_grad=True)
    denoiser(z, sigma).sum().backward()
    assert sigma.grad.abs() > 0


def test_noise_level_goes_with_noise_map(make):
    z = torch.rand(1, 1, 8, 8)
    with pytest.raises(ValueError, match="noise_map=True, but sigma is None"):
        make(noise_map=True)(z)
    with pytest.raises(ValueError, match="noise_map=False"):
        make()(z, torch.tensor(0.1))


@of_the_residual
def test_starts_close_to_the_identity(make):
    z = torch.rand(1, 1, 32, 32)
    change = (make()(z) - z).square().mean().sqrt()
    assert 0 < change < 0.1


@of_the_residual
def test_residual_is_added_to_the_input(make):
    denoiser = make()
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.zero_()
    z = torch.rand(1, 1, 11, 13)
    assert torch.equal(denoiser(z), z)
