"""A base held in fewer bits."""

import pytest
import torch
from tiny import unfolding_network

from lorun.adapters.precision import PRECISIONS, hold_base
from lorun.bench.steps import bytes_held
from lorun.denoisers.spectral import SpectralTransformer
from lorun.denoisers.unet import UNet
from lorun.errors import UnknownName
from lorun.physics.block_cs import BlockCSConfig


def network(kind=UNet):
    torch.manual_seed(0)
    net = unfolding_network("lorun", lambda noise_map: kind(1, 16, 2, 1), 2).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for parameter in net.parameter_kinds()["adapters"]:
            parameter.copy_(0.05 * torch.randn(parameter.shape))
    return net.eval()


@torch.no_grad()
def reconstruct(net):
    physics = BlockCSConfig(ratio=25, block=8, initial="adjoint").build()
    return net(physics(torch.rand(1, 1, 16, 24, generator=torch.Generator().manual_seed(0))), physics)


@pytest.mark.parametrize(
    ("precision", "bits", "error"), [("float32", 32, 0.0), ("bfloat16", 16, 2e-3), ("int8", 8, 5e-3), ("nf4", 4, 0.1)]
)
@pytest.mark.parametrize("kind", [UNet, SpectralTransformer])
def test_bytes_shrink_and_the_estimate_hardly_changes(kind, precision, bits, error):
    """Of all weights, those that LoRA passes over too; vectors, which stay, are few."""
    net = network(kind)
    exact = reconstruct(net)
    base = sum(p.numel() for p in net.denoisers[0].base_parameters().values())
    full = bytes_held(net)
    hold_base(net.denoisers[0], precision)
    saved = full - bytes_held(net)
    assert saved == pytest.approx(base * (32 - bits) / 8, rel=0.1)
    change = (reconstruct(net) - exact).abs().max().item()
    assert change <= error
    assert (change == 0) == (precision == "float32")
    assert torch.equal(reconstruct(net), reconstruct(net))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_adapters_stay_as_they_are(precision):
    net = network()
    before = [p.clone() for p in net.parameter_kinds()["adapters"]]
    hold_base(net.denoisers[0], precision)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameter_kinds()["adapters"], strict=True))


def test_an_unknown_precision_is_refused():
    with pytest.raises(UnknownName, match="nf4"):
        hold_base(network().denoisers[0], "nf3")
