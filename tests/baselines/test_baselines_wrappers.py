"""Reconstructors of deepinv and plain modules as baselines."""

import pytest
import torch
from deepinv.models import ArtifactRemoval
from torch import nn

from lorun.physics.block_cs import BlockCSConfig
from lorun.physics.blur_downsample import BlurDownsampleConfig
from lorun.physics.cassi import CASSIConfig
from lorun.plugins.block_cs import needs_block_cs
from lorun.plugins.full_precision import in_full_precision
from lorun.plugins.padding import Padded
from lorun.plugins.wrappers import from_module, from_reconstructor
from lorun.unfolding import initial_reconstruction

CONFIGS = [
    BlockCSConfig(ratio=25, block=8, initial="adjoint"),
    CASSIConfig(bands=4, mask_side=64),
    BlurDownsampleConfig(scale=2),
]


@pytest.fixture(params=CONFIGS, ids=lambda config: config.name)
def measured(request):
    """Measurements of an image of 16 x 24 pixels, and the operator that they are of."""
    physics = request.param.build().at(16, 24)
    x = torch.rand(2, 4, 16, 24, generator=torch.Generator().manual_seed(0))
    return physics(x), physics


class Half(nn.Module):
    """Takes sides that are a multiple of 4 only, and remembers which."""

    def forward(self, x, sigma=None):
        assert [side % 4 for side in x.shape[2:]] == [0, 0]
        self.seen = x.shape
        return x / 2


def test_a_module_works_on_the_first_estimate(measured):
    y, physics = measured
    x = initial_reconstruction(y, physics)
    assert torch.equal(from_module(lambda channels: Half())(physics, 4)(y, physics), x / 2)
    assert torch.equal(from_module(lambda channels: Half(), residual=True)(physics, 4)(y, physics), x + x / 2)


def test_a_module_is_made_for_the_channels():
    network = from_module(lambda channels: nn.Conv2d(channels, channels, 1))(None, 3)
    assert network.module.module.in_channels == 3
    assert [name for name, _ in network.named_parameters()] == ["module.module.weight", "module.module.bias"]


def test_sides_are_padded_to_the_multiple_and_cut_again():
    padded = Padded(Half(), 4)
    x = torch.rand(1, 2, 9, 16)
    assert torch.equal(padded(x, 0.1), x / 2)
    assert padded.module.seen == (1, 2, 12, 16)


def test_a_reconstructor_is_called_as_deepinv_calls_it(measured):
    y, physics = measured
    baseline = from_reconstructor(lambda physics, channels: ArtifactRemoval(Half()))
    torch.testing.assert_close(baseline(physics, 4)(y, physics), physics.A_adjoint(y) / 2)


def test_an_operator_never_computes_in_half_precision(measured):
    y, physics = measured
    exact = in_full_precision(physics)
    x = physics.A_adjoint(y)
    with torch.autocast("cpu", torch.bfloat16):
        estimates = [exact.A(x.bfloat16()), exact.A_adjoint(y), exact.prox_l2(x, y, 0.5)]
    wanted = [physics.A(x.bfloat16().float()), physics.A_adjoint(y), physics.prox_l2(x, y, 0.5)]
    for estimate, other in zip(estimates, wanted, strict=True):
        assert estimate.dtype == torch.float32
        torch.testing.assert_close(estimate, other)
    assert exact.state_dict().keys() == physics.state_dict().keys()
    assert "A" not in vars(physics)  # the operator itself is what it was


def test_unsupported_operators():
    physics = CONFIGS[0].build()
    blocks = from_module(lambda channels: Half(), unsupported=needs_block_cs)
    assert blocks.unsupported(physics, 1) is None
    assert blocks.unsupported(CONFIGS[2].build(), 1) == "it reconstructs blocks, and BlurDownsample has none"
    for baseline in (from_module(lambda channels: Half()), from_reconstructor(lambda physics, channels: Half())):
        assert baseline.unsupported(physics, 1) is None
        assert baseline.unsupported(nn.Identity(), 1) == "Identity is not linear"


def test_a_reconstructor_may_depend_on_values():
    made = from_reconstructor(lambda physics, channels: Half(), data_dependent=True)(None, 1)
    assert made.data_dependent
    assert not from_reconstructor(lambda physics, channels: Half())(None, 1).data_dependent
