"""FLOPs against arithmetic by hand."""

import pytest
import torch
from tiny import with_spec
from torch import nn

from lorun.accounting.building import inference_build
from lorun.accounting.flops import reconstruction_flops
from lorun.denoisers.spectral import SpectralBlock, SpectralTransformerConfig
from lorun.denoisers.unet import UNetConfig
from lorun.system import build_system


class Identity(nn.Module):
    def A(self, x):
        return x


class Denoiser(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, y, physics):
        return self.layer(y)


def test_convolution():
    flops = reconstruction_flops(lambda: (Denoiser(nn.Conv2d(3, 5, 3, padding=1)), Identity()), (1, 3, 32, 24))
    assert flops == 2 * 3 * 5 * 3 * 3 * 32 * 24


def test_linear_layer_and_batch():
    flops = reconstruction_flops(lambda: (Denoiser(nn.Linear(8, 6)), Identity()), (2, 1, 4, 8))
    assert flops == 2 * (2 * 1 * 4) * 8 * 6


def test_physics_counts_where_the_network_calls_it():
    class Sampling(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("phi", torch.ones(4, 16))

        def A(self, x):
            return x @ self.phi.mT  # (B, C, H, 16) -> (B, C, H, 4)

    class Residual(nn.Module):
        def forward(self, y, physics):
            return physics.A(y @ physics.phi) - y

    flops = reconstruction_flops(lambda: (Residual(), Sampling()), (1, 1, 8, 16))
    assert flops == 2 * (2 * 8 * 4 * 16)  # back and forth; making y is not the network's


def test_fourier_transforms():
    class Filter(nn.Module):
        def forward(self, y, physics):
            there = torch.fft.fft2(torch.fft.irfft2(torch.fft.rfft2(y), s=y.shape[2:]))
            return torch.fft.ifft(there, dim=2).real

    flops = reconstruction_flops(lambda: (Filter(), Identity()), (2, 3, 16, 32))
    whole = 5 * 2 * 3 * 16 * 32 * (4 + 5)  # 5 N log2(N)
    one_axis = 5 * 2 * 3 * 16 * 32 * 4
    assert flops == whole // 2 + whole // 2 + whole + one_axis


def test_fused_transformer_layers_are_counted():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

        def forward(self, y, physics):
            return self.layer(y[:, 0])[:, None]  # (1, 10, 16): 10 tokens

    projections = 4 * 16 * 16  # query, key, value, output
    mlp = 2 * 16 * 32
    attention = 2 * 10 * 16  # per token: scores against 10 keys, sum of 10 values
    assert reconstruction_flops(lambda: (Tokens(), Identity()), (1, 1, 10, 16)) == 2 * 10 * (
        projections + mlp + attention
    )
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_part_of_a_parameter_may_be_handed_to_a_layer():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.levels = nn.Parameter(torch.ones(3))
            self.layer = nn.Linear(1, 2, bias=False)

        def forward(self, y, physics):
            return self.layer(self.levels[:1])

    assert reconstruction_flops(lambda: (Scaled(), Identity()), (1, 1, 4, 4)) == 2 * 1 * 2


def test_attention_among_channels():
    """Two heads of 4 channels: a map costs as much per pixel as a linear layer of a head."""
    projections, maps, position = 4 * 8 * 8, 2 * (2 * 4 * 4), 2 * (9 * 8)
    feed_forward = 2 * (8 * 32) + 9 * 32
    flops = reconstruction_flops(lambda: (Denoiser(SpectralBlock(8, 2)), Identity()), (1, 8, 12, 10))
    assert flops == 2 * (12 * 10) * (projections + maps + position + feed_forward)


@pytest.mark.parametrize(
    "denoiser", [UNetConfig(width=4, levels=2, blocks=1), SpectralTransformerConfig(width=4, levels=2)]
)
def test_lorun_has_the_operations_of_its_base_and_of_composing(tiny_profile, denoiser):
    """However its convolutions are computed."""

    def of(method):
        return with_spec(tiny_profile.experiment("cs", "r25", method, 0), denoiser=denoiser)

    def flops(method):
        return reconstruction_flops(inference_build(of(method)), (1, 1, 24, 24))

    network = build_system(of("lorun")).network
    factors = [layer.factors() for layer in network.denoisers[0].layers]
    composing = sum(2 * one.b.numel() * one.a[0].numel() for one in factors)
    assert flops("lorun") == flops("shared") + network.stages * composing
