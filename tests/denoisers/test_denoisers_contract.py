"""What every denoiser owes to the rest of the suite."""

import pytest
import torch

from lorun.adapters import adaptable_layers
from lorun.config import CNNConfig, UNetConfig
from lorun.denoisers import build_denoiser

DENOISERS = {
    "unet": UNetConfig(width=4, levels=3, blocks=1),
    "unet_one_level": UNetConfig(width=4, levels=1, blocks=2),
    "cnn": CNNConfig(width=4, depth=4),
}


@pytest.fixture(params=DENOISERS)
def make(request):
    def made(channels=1, noise_map=False):
        torch.manual_seed(0)
        return build_denoiser(DENOISERS[request.param], channels, noise_map)

    return made


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (16, 16), (33, 20)])
@pytest.mark.parametrize("channels", [1, 3])
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
    denoiser = make(noise_map=True)
    layers = adaptable_layers(denoiser)
    held = {name for name, _ in denoiser.named_parameters()}
    assert held == {f"{name}.{p}" for name, layer in layers.items() for p, _ in layer.named_parameters()}


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


def test_starts_close_to_the_identity(make):
    z = torch.rand(1, 1, 32, 32)
    change = (make()(z) - z).square().mean().sqrt()
    assert 0 < change < 0.1


def test_residual_is_added_to_the_input(make):
    denoiser = make()
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.zero_()
    z = torch.rand(1, 1, 11, 13)
    assert torch.equal(denoiser(z), z)
