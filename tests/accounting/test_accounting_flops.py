"""FLOPs against arithmetic by hand."""

import pytest
import torch
from tiny import with_spec, with_training
from torch import nn

from lorun.accounting.building import inference_build
from lorun.accounting.flops import reconstruction_flops, step_flops, training_step_flops
from lorun.accounting.prediction import resized
from lorun.config import TrainingConfig
from lorun.denoisers.spectral import SpectralBlock, SpectralTransformerConfig
from lorun.denoisers.unet import UNetConfig
from lorun.errors import LorunError
from lorun.system import build_system


class Identity(nn.Module):
    def forward(self, x):
        return x

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


# Training steps


FIRST, SECOND = 2 * 9 * 3 * 4 * 32 * 24, 2 * 9 * 4 * 6 * 32 * 24  # convolutions of 3 x 3, from 3 to 4 to 6 channels


@pytest.mark.parametrize(
    ("frozen", "groups", "count"),
    [
        ((), 1, 2 * FIRST + 3 * SECOND),  # the measurement needs no gradient
        ((), 2, 2 * FIRST + 3 * SECOND / 2),
        ((0,), 1, FIRST + 2 * SECOND),
        ((1,), 1, 2 * FIRST + 2 * SECOND),  # its input's gradient, not its weight's
    ],
)
def test_a_training_step_of_two_convolutions(frozen, groups, count):
    def build():
        layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1, groups=groups))
        for index in frozen:
            layers[2 * index].requires_grad_(False)
        return Denoiser(nn.Sequential(layers, Halved())), Identity()

    config = TrainingConfig(steps=1, precision="float32")
    assert training_step_flops(build, (5, 3, 32, 24), config) == 5 * count


class Halved(nn.Module):
    """Six channels to three, by adding pairs."""

    def forward(self, x):
        return x[:, :3] + x[:, 3:]


def test_a_step_without_parameters_is_refused():
    with pytest.raises(LorunError, match="no trainable parameters"):
        training_step_flops(lambda: (Denoiser(nn.ReLU()), Identity()), (1, 1, 8, 8), TrainingConfig(steps=1))


@pytest.mark.parametrize("method", ["lorun", "block_k"])
def test_stages_that_are_computed_again_count_again(tiny_profile, method):
    """All stages but the last; PyTorch leaves out what no gradient needs."""
    experiment = tiny_profile.experiment("cs", "r25", method, 0)
    kept, again = (step_flops(with_training(experiment, recompute=how)) for how in ("none", "stage"))
    forward = 2 * reconstruction_flops(inference_build(resized(experiment, image=16)), (1, 1, 16, 16))
    assert 0.4 * forward < again - kept < forward * 2 / 3


def test_the_count_of_a_step_does_not_depend_on_the_machine(tiny_profile, monkeypatch):
    """`precision: auto` and `recompute: auto` do."""
    experiment = tiny_profile.experiment("cs", "r25", "lorun", 0)
    counts = set()
    for has_it in (False, True):
        monkeypatch.setattr("lorun.step.cpu_has_bfloat16", lambda has_it=has_it: has_it)
        counts.add(step_flops(with_training(experiment, precision="auto", recompute="auto")))
    assert counts == {step_flops(experiment)}
