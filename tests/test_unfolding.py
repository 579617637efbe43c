from functools import partial

import deepinv
import pytest
import torch
from tiny import unfolding_network

from lorun.config import AdapterConfig
from lorun.denoisers.cnn import CNN
from lorun.denoisers.spectral import SpectralTransformer
from lorun.denoisers.unet import UNet
from lorun.errors import LorunError
from lorun.methods import PRESETS, STRATEGIES
from lorun.physics.block_cs import BlockCSConfig
from lorun.unfolding import UnfoldingNetwork, initial_reconstruction

K = 3

DENOISERS = {
    "unet": partial(UNet, 1, width=4, levels=2, blocks=1),
    "spectral": partial(SpectralTransformer, 1, width=4, levels=2, blocks=1),
}
every_denoiser = pytest.mark.parametrize("denoiser", DENOISERS)


def network(sharing, denoiser="unet", **settings):
    torch.manual_seed(0)
    make = DENOISERS[denoiser]
    return unfolding_network(sharing, lambda noise_map: make(noise_map=noise_map), K, **settings)


def move_adapters(net, scale=0.1):
    """Give the adapters values other than their start, where B = 0."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameter_kinds()["adapters"]:
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))


@pytest.fixture
def physics():
    return BlockCSConfig(ratio=25, block=8, initial="adjoint").build()


@pytest.fixture
def x():
    return torch.rand(2, 1, 24, 16, generator=torch.Generator().manual_seed(0))


@every_denoiser
@pytest.mark.parametrize("sharing", STRATEGIES)
def test_reconstructs_patches_and_whole_images_of_any_size(sharing, denoiser, physics):
    net = network(sharing, denoiser)
    for size in [(16, 16), (24, 16), (19, 37), (8, 9)]:
        image = torch.rand(1, 1, *size)
        bound = physics.at(*size)
        assert net(bound(image), bound).shape == image.shape


@every_denoiser
@pytest.mark.parametrize("sharing", STRATEGIES)
def test_every_trainable_parameter_gets_a_gradient(sharing, denoiser, physics, x):
    net = network(sharing, denoiser)
    move_adapters(net)
    net(physics(x), physics).square().mean().backward()
    keeps_base = sharing == "frozen" or (net.adapted and not PRESETS[sharing].joint)
    frozen = {id(p) for p in net.parameter_kinds()["base"]} if keeps_base else set()
    for name, parameter in net.named_parameters():
        assert parameter.requires_grad == (id(parameter) not in frozen), name
        if id(parameter) in frozen:
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@every_denoiser
@pytest.mark.parametrize("sharing", STRATEGIES)
def test_equals_the_iteration_written_out(sharing, denoiser, physics, x):
    net = network(sharing, denoiser)
    move_adapters(net)
    with torch.no_grad():
        net.step_sizes.copy_(torch.linspace(0.5, 1.5, net.stages))
        if net.noise_levels is not None:
            net.noise_levels.copy_(torch.linspace(0.3, 0.1, net.stages))
        y = physics.A(x)
        expected = physics.A_adjoint(y)
        for k in range(net.stages):
            z = expected - net.step_sizes[k] * physics.A_adjoint(physics.A(expected) - y)
            own = net.denoisers[k if net.sharing == "per_stage" else 0]
            if net.adapted:
                own.model.set_adapter(f"stage_{k + 1}")
            expected = own(z) if net.noise_levels is None else own(z, net.noise_levels[k])
        torch.testing.assert_close(net(y, physics), expected)


def test_denoisers_held_and_numbers_of_parameters():
    one = sum(p.numel() for p in UNet(1, width=4, levels=2, blocks=1).parameters())
    held = {"block1": (1, 1), "block_k": (K, K), "shared": (1, K), "lorun": (1, K), "frozen": (1, K)}
    for sharing, (copies, step_sizes) in held.items():
        kinds = network(sharing).parameter_kinds()
        assert sum(p.numel() for p in kinds["base"]) == copies * one
        assert sum(p.numel() for p in kinds["step_sizes"]) == step_sizes
    sigma = network("shared_sigma").parameter_kinds()
    assert sum(p.numel() for p in sigma["base"]) == one + 9 * 4  # one more input channel of the 3x3 head
    assert sum(p.numel() for p in sigma["other"]) == K


@every_denoiser
def test_all_strategies_start_from_the_same_first_denoiser(denoiser):
    first = dict(network("block1", denoiser).denoisers[0].named_parameters())
    for sharing in ("block_k", "shared", "lorun_random", "frozen"):
        net = network(sharing, denoiser)
        own = net.denoisers[0].base_parameters() if net.adapted else dict(net.denoisers[0].named_parameters())
        assert own.keys() == first.keys()
        assert all(torch.equal(own[name], first[name]) for name in first)
    a, b = network("block_k").denoisers[:2]
    assert not torch.equal(a.head.weight, b.head.weight)


@pytest.mark.parametrize("sharing", ["block_k", "shared", "lorun"])
def test_stages_change_the_result(sharing, physics, x):
    """Each stage is used: changing one step size changes the estimate."""
    net = network(sharing)
    y = physics(x)
    before = net(y, physics)
    for k in range(K):
        with torch.no_grad():
            net.step_sizes[k] += 0.25
            after = net(y, physics)
            net.step_sizes[k] -= 0.25
        # Phi is orthonormal and x_0 = A^T y fits y, so the first step of all has nothing to correct.
        change = (before - after).abs().max()
        assert change < 1e-6 if k == 0 else change > 1e-5


def test_a_step_size_of_one_projects_onto_the_measurements(physics, x):
    y = physics(x)
    z = network("shared").gradient_step(torch.rand_like(x), y, physics, 0)
    torch.testing.assert_close(physics.A(z), y)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sharing": "per_stage", "adapters": AdapterConfig()}, "adapters need one denoiser that all stages share"),
        ({"noise_level": 0.1, "noise_map": True}, "the operator gives one too"),
    ],
)
def test_what_excludes_each_other_is_refused(settings, message):
    with pytest.raises(LorunError, match=message):
        UnfoldingNetwork(lambda noise_map: CNN(1, 4, 3), 2, **settings)


@pytest.mark.parametrize("sharing", ["lorun", "block_k", "shared_sigma"])
def test_gates_mix_the_gradient_step_with_the_denoiser(sharing, physics, x):
    """At first the first stage is that of a network without gates; with gate 0 the later ones are gradient steps."""
    plain, closed, open_ = network(sharing), network(sharing, gate=0.0), network(sharing, gate=1.0)
    for net in (plain, closed, open_):
        move_adapters(net)
    y = physics(x)
    assert closed.gates.tolist() == [1, 0, 0]
    torch.testing.assert_close(open_(y, physics), plain(y, physics))
    sigma = plain.noise_level_input(y, physics, 1)  # at first that of all stages
    expected = plain.step(initial_reconstruction(y, physics), y, physics, 0, sigma)
    for stage in (1, 2):
        expected = plain.gradient_step(expected, y, physics, stage)
    torch.testing.assert_close(closed(y, physics), expected)
    with torch.no_grad():
        closed.gates.copy_(torch.tensor([1, 0.25, 0.25]))
    z = torch.rand_like(x)
    before, after = plain.gradient_step(z, y, physics, 1), plain.step(z, y, physics, 1, sigma)
    torch.testing.assert_close(closed.step(z, y, physics, 1, sigma), 0.75 * before + 0.25 * after)
    assert {id(p) for p in closed.parameter_kinds()["other"]} >= {id(closed.gates)}


def test_closed_gates_learn(physics, x):
    net = network("shared", gate=0.0)
    net(physics(x), physics).square().mean().backward()
    assert (net.gates.grad != 0).all()


def test_a_network_starts_where_it_is_told(physics, x):
    net, y = network("shared"), physics(x)
    assert torch.equal(net(y, physics, initial_reconstruction(y, physics)), net(y, physics))
    assert not torch.allclose(net(y, physics, x), net(y, physics), atol=1e-3)


def test_adapters_and_learned_noise_levels_go_together(physics, x):
    """Both are settings of one class, so a combination needs no code."""
    net = UnfoldingNetwork(lambda noise_map: CNN(1, 4, 3, noise_map), K, noise_level=0.1, adapters=AdapterConfig())
    move_adapters(net)
    net(physics(x), physics).square().mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in (net.noise_levels, *net.parameter_kinds()["adapters"]))


@pytest.mark.parametrize("sharing", ["lorun", "block_k", "frozen"])
def test_runs_on_any_deepinv_operator(sharing):
    """Blur and inpainting come from deepinv; they have no initial estimate of their own, so A^T y is used."""
    x = torch.rand(1, 1, 16, 16)
    kernel = torch.ones(1, 1, 3, 3) / 9
    for operator in (
        deepinv.physics.Blur(filter=kernel, padding="circular"),
        deepinv.physics.Inpainting(img_size=(1, 16, 16), mask=0.5),
    ):
        y = operator(x)
        assert network(sharing)(y, operator).shape == x.shape
        assert torch.equal(initial_reconstruction(y, operator), operator.A_adjoint(y))


def test_a_deepinv_reconstructor_is_called_like_ours(physics, x):
    network_of_deepinv = deepinv.models.ArtifactRemoval(deepinv.models.UNet(1, 1, scales=2), mode="adjoint")
    assert network_of_deepinv(physics(x), physics).shape == x.shape


@every_denoiser
@pytest.mark.parametrize("sharing", ["lorun", "block_k", "shared_sigma"])
def test_gradient_step_keeps_full_precision_under_autocast(sharing, denoiser, physics, x):
    net = network(sharing, denoiser)
    y = physics(x)
    with torch.autocast("cpu", torch.bfloat16):
        half = net(y, physics)
        z = net.gradient_step(torch.rand_like(x), y, physics, 0)
    assert z.dtype == torch.float32
    torch.testing.assert_close(physics.A(z), y)
    torch.testing.assert_close(half.float(), net(y, physics), atol=0.05, rtol=0)


@every_denoiser
def test_loading_a_base(denoiser):
    pretrained = network("block1", denoiser)
    with torch.no_grad():
        for parameter in pretrained.parameters():
            parameter.mul_(0.5)
    trained = dict(pretrained.denoisers[0].named_parameters())
    for sharing in ("lorun", "frozen"):
        net = network(sharing, denoiser)
        net.load_base(pretrained.state_dict(), step_size=False)
        own = net.denoisers[0].base_parameters() if net.adapted else dict(net.denoisers[0].named_parameters())
        assert own.keys() == trained.keys()
        assert all(torch.equal(p, trained[name]) for name, p in own.items())
        assert net.step_sizes.tolist() == [1.0] * K
        net.load_base(pretrained.state_dict())
        assert net.step_sizes.tolist() == [0.5] * K


def test_a_base_has_one_stage_or_as_many():
    three, two = network("shared"), UnfoldingNetwork(lambda noise_map: DENOISERS["unet"](), 2)
    with torch.no_grad():
        three.step_sizes.copy_(torch.tensor([0.5, 0.6, 0.7]))
    net = network("lorun")
    net.load_base(three.state_dict())
    assert torch.equal(net.step_sizes, three.step_sizes)
    with pytest.raises(LorunError, match="the base has 2 stages: it must have one, or 3"):
        net.load_base(two.state_dict())
    with pytest.raises(LorunError, match="the base has 1 stages instead of 3"):
        net.decompose_base(network("block1").state_dict())


def test_a_base_of_another_size_is_refused():
    other = unfolding_network("block1", lambda noise_map: UNet(1, width=8, levels=2, blocks=1), 1)
    with pytest.raises(
        LorunError, match=r"does not fit at `head.weight`: shape \(8, 1, 3, 3\) instead of \(4, 1, 3, 3\)"
    ):
        network("lorun").load_base(other.state_dict())
    state = network("block1").state_dict()
    del state["denoisers.0.tail.weight"]
    with pytest.raises(LorunError, match="`tail.weight`: shape None"):
        network("lorun").load_base(state)
