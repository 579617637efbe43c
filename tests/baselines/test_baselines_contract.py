"""What every baseline owes to the rest of the suite."""

import pytest
import torch
from deepinv.physics import Inpainting

import baselines
from lorun.config import BlockCSConfig
from lorun.errors import LorunError, UnknownName
from lorun.physics import build_physics


@pytest.fixture(params=baselines.names())
def name(request):
    return request.param


@pytest.fixture
def physics():
    operator = build_physics(BlockCSConfig(ratio=25, block=8))
    operator.fit(lambda side, count: [torch.rand(200, 64)])
    return operator


def build(name, physics, channels=1):
    torch.manual_seed(0)
    return baselines.build(name, physics, channels)


def test_there_are_baselines():
    assert {"linear_mmse", "ista_net_plus"} <= set(baselines.names())


def test_card_is_complete(name):
    card = baselines.card(name)
    assert card.title
    assert card.licence


@pytest.mark.parametrize("channels", [1, 3])
def test_estimates_have_the_shape_of_the_image(name, physics, channels):
    network = build(name, physics, channels)
    for size in [(16, 16), (24, 8), (19, 21)]:
        x = torch.rand(2, channels, *size)
        bound = physics.at(*size)
        assert network(bound(x), bound).shape == x.shape


def test_gradients_reach_every_trainable_parameter(name, physics):
    network = build(name, physics)
    x = torch.rand(2, 1, 16, 16)
    estimate = network(physics(x), physics)
    if not list(network.parameters()):
        assert not estimate.requires_grad
        return
    (estimate - x).square().mean().backward()
    for parameter_name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.abs().sum() > 0, parameter_name


def test_is_deterministic_and_survives_saving(name, physics):
    x = torch.rand(1, 1, 16, 16)
    network, other = build(name, physics), build(name, physics)
    estimate = network(physics(x), physics)
    assert torch.equal(estimate, other(physics(x), physics))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(network.state_dict())
    assert torch.equal(estimate, other(physics(x), physics))


def test_overfits_one_patch(name, physics):
    network = build(name, physics)
    if not list(network.parameters()):
        return
    ramp = torch.linspace(0, 1, 16)
    x = (0.5 + 0.4 * torch.sin(6 * ramp[:, None] * ramp))[None, None]
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (network(physics(x), physics) - x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_parameters_are_within_2_percent_of_the_published_ones_or_the_card_says_why(name, physics):
    card = baselines.card(name)
    if card.published_parameters_M is None:
        return
    ours = sum(p.numel() for p in build(name, physics).parameters())
    off = abs(ours - card.published_network_parameters) / (1e6 * card.published_parameters_M)
    assert (off <= 0.02) == (card.parameters_differ is None), f"{off:.1%} off"


def test_a_physics_that_a_baseline_declines_gives_the_reason():
    with pytest.raises(
        LorunError, match="baseline linear_mmse cannot be used here: Inpainting has no initial estimate"
    ):
        baselines.build("linear_mmse", Inpainting(img_size=(1, 8, 8), mask=0.5), 1)


def test_unknown_baseline_suggests_the_near_one(physics):
    with pytest.raises(UnknownName, match="Did you mean 'ista_net_plus'"):
        baselines.build("ista_net_pluss", physics, 1)
