"""The forward pass in weight space against peft's own, and what it keeps."""

import copy

import pytest
import torch
from tiny import unfolding_network
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from lorun.accounting.live_bytes import training_step_bytes
from lorun.adapters import AdaptedDenoiser
from lorun.adapters.composed import Geometry, low_rank_pays
from lorun.config import TrainingConfig
from lorun.denoisers.resunet import ResUNet
from lorun.denoisers.spectral import SpectralTransformer
from lorun.denoisers.unet import UNet
from lorun.physics.block_cs import BlockCSConfig

K = 3


class Every(nn.Module):
    """Layers that take the full way back, and such that take the low-rank way: convolutions and linear layers."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(1, 8, 3, padding=1)
        self.widen = nn.Conv2d(8, 64, 2, stride=2, bias=False)
        self.wide = nn.Conv2d(64, 64, 3, padding="same")
        self.pointwise = nn.Conv2d(64, 64, 1)
        self.linear = nn.Linear(64, 64)
        self.narrow = nn.Linear(64, 4, bias=False)

    def forward(self, z):
        h = torch.relu(self.wide(self.widen(torch.relu(self.head(z)))))
        h = self.narrow(torch.tanh(self.linear(self.pointwise(h).movedim(1, -1)))).movedim(-1, 1)
        return z + nn.functional.pixel_shuffle(h, 2)


class Transposed(Every):
    """With transposed convolutions, of which one has a bias, overlaps and is padded."""

    def __init__(self):
        super().__init__()
        self.narrow = nn.Linear(64, 16, bias=False)
        self.enlarge = nn.ConvTranspose2d(16, 8, 2, stride=2, bias=False)
        self.overlap = nn.ConvTranspose2d(8, 1, 3, padding=1)

    def forward(self, z):
        h = torch.relu(self.wide(self.widen(torch.relu(self.head(z)))))
        h = self.narrow(torch.tanh(self.linear(self.pointwise(h).movedim(1, -1)))).movedim(-1, 1)
        return z + self.overlap(torch.relu(self.enlarge(h)))


def spectral():
    """The widest of its layers take the low-rank way, too."""
    return SpectralTransformer(1, 32, 2)


def adapted(gamma=10.0, dtype=torch.float64, alpha=1, make=Every, **options):
    torch.manual_seed(0)
    denoiser = AdaptedDenoiser(make(), K, gamma, **options).to(dtype).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for name, parameter in denoiser.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.2 * torch.randn_like(parameter))
    for layer in denoiser.layers:
        layer.scaling = dict.fromkeys(layer.scaling, alpha)
    return denoiser


def image(dtype=torch.float64, batch=2):
    return torch.rand(batch, 1, 8, 12, dtype=dtype, generator=torch.Generator().manual_seed(0))


def run(denoiser, z, composed, stages=range(K)):
    """Output and all gradients of the stages in a row."""
    denoiser.compose(composed)
    denoiser.zero_grad(set_to_none=True)
    z = z.clone().requires_grad_()
    x = z
    for stage in stages:
        denoiser.activate(stage)
        x = denoiser(x)
    x.square().sum().backward()
    return x.detach(), z.grad, {name: p.grad for name, p in denoiser.named_parameters()}


def ways(denoiser):
    found = set()
    for layer in denoiser.layers:
        geometry = Geometry.of(layer.base_layer) if isinstance(layer.base_layer, nn.Conv2d) else None
        found.add(low_rank_pays(layer.base_layer.weight, layer.r["stage_1"], geometry))
    return found


@pytest.mark.parametrize("layout", ["peft", "loralib"])
@pytest.mark.parametrize("alpha", [1, 0.5])
@pytest.mark.parametrize("gamma", [5.0, 60.0])
@pytest.mark.parametrize("make", [Every, Transposed, spectral])
def test_equals_pefts_forward_pass_with_all_gradients(make, gamma, alpha, layout):
    denoiser = adapted(gamma, alpha=alpha, make=make, layout=layout)
    assert ways(denoiser) == ({True, False} if gamma == 5 else {False})
    output, grad_z, gradients = run(denoiser, image(), composed=True)
    expected, expected_z, expected_gradients = run(denoiser, image(), composed=False)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(grad_z, expected_z)
    for name, gradient in gradients.items():
        if "lora_" not in name:
            assert gradient is None, name
        else:
            torch.testing.assert_close(gradient, expected_gradients[name], msg=name)


def test_equals_pefts_forward_pass_in_half_precision():
    denoiser = adapted(dtype=torch.float32)
    exact = run(denoiser, image(torch.float32), composed=False)
    with torch.autocast("cpu", torch.bfloat16):
        denoiser.compose(True)
        denoiser.zero_grad()
        denoiser.activate(0)
        assert denoiser.base.wide(torch.rand(1, 64, 4, 4)).dtype == torch.bfloat16
        half = run(denoiser, image(torch.float32), composed=True)
    torch.testing.assert_close(half[0].float(), exact[0], rtol=0.02, atol=0.02)
    for name, gradient in half[2].items():
        if "lora_" in name:
            assert gradient.dtype == torch.float32
            assert (gradient - exact[2][name]).norm() <= 0.05 * exact[2][name].norm(), name


@pytest.mark.parametrize("what", ["image", "adapters"])
def test_gradients_where_only_some_are_asked_for(what):
    denoiser = adapted()
    for name, parameter in denoiser.named_parameters():
        parameter.requires_grad_("lora_" in name and what == "adapters")
    z = image().requires_grad_(what == "image")
    results = []
    for composed in (True, False):
        denoiser.compose(composed)
        denoiser.activate(1)
        wanted = [z] if what == "image" else [p for p in denoiser.parameters() if p.requires_grad]
        results.append(torch.autograd.grad(denoiser(z).sum(), wanted, allow_unused=True))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("layout", ["peft", "loralib"])
@pytest.mark.parametrize("gamma", [5.0, 60.0])
@pytest.mark.parametrize("make", [Every, Transposed, spectral])
def test_a_base_that_is_trained_too_gets_its_gradients(make, gamma, layout):
    denoiser = adapted(gamma, alpha=0.5, make=make, layout=layout, frozen=False)
    _, _, gradients = run(denoiser, image(), composed=True)
    _, _, expected = run(denoiser, image(), composed=False)
    assert all(gradient is not None for gradient in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], msg=name)


@pytest.mark.parametrize("layout", ["peft", "loralib"])
def test_a_base_that_is_trained_too_is_composed_in_weight_space(layout):
    denoiser = adapted(layout=layout, frozen=False)
    output = denoiser(image())
    names = [type(node).__name__ for node in graph(output.grad_fn)]
    assert names.count("_LayerBackward") == len(denoiser.layers)
    assert names.count("_FormBackward") == 1


def test_a_base_changed_before_the_backward_pass_is_an_error():
    denoiser = adapted(frozen=False)
    output = denoiser(image()).sum()
    with torch.no_grad():
        denoiser.layers[-1].base_layer.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.backward()


@pytest.mark.parametrize("layout", ["peft", "loralib"])
@pytest.mark.parametrize("frozen", [True, False])
def test_gradients_are_those_of_finite_differences(layout, frozen):
    torch.manual_seed(0)
    small = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 2, 2, stride=2, bias=False), nn.ConvTranspose2d(2, 1, 2, stride=2)
    )
    denoiser = AdaptedDenoiser(small.double(), 1, 60, layout=layout, frozen=frozen).double()
    names, parameters = zip(*((n, p) for n, p in denoiser.named_parameters() if p.requires_grad), strict=True)
    values = [torch.randn_like(p).requires_grad_() for p in parameters]
    z = torch.randn(2, 2, 4, 6, dtype=torch.float64, requires_grad=True)

    def output(z, *values):
        return torch.func.functional_call(denoiser, dict(zip(names, values, strict=True)), (z,))

    assert torch.autograd.gradcheck(output, (z, *values))


@pytest.mark.parametrize("layer", ["wide", "widen", "pointwise"])
def test_the_weight_in_loralibs_layout_is_its_definition(layer):
    denoiser = adapted(alpha=0.5, layout="loralib")
    conv = getattr(denoiser.base, layer)
    a, b, weight = (p.detach() for p in (conv.lora_A["stage_1"].weight, conv.lora_B["stage_1"].weight, conv.weight))
    size = conv.base_layer.kernel_size[0]
    r, out, channels = conv.r["stage_1"], conv.out_features, conv.in_features
    assert (a.shape, b.shape) == ((r * size, channels * size), (out * size, r * size))
    change = (b @ a).flatten()
    expected = weight.clone()
    for place, (o, i, y, x) in enumerate(torch.cartesian_prod(*map(torch.arange, weight.shape)).tolist()):
        expected[o, i, y, x] += 0.5 * change[place]
    denoiser.activate(0)
    torch.testing.assert_close(conv.composed_weight(), expected)
    torch.testing.assert_close(weight + conv.get_delta_weight("stage_1"), expected)


def test_a_graph_that_is_kept_can_be_gone_through_again():
    denoiser = adapted()
    denoiser.activate(0)
    output = denoiser(image()).sum()
    a = next(p for name, p in denoiser.named_parameters() if "stage_1" in name)
    output.backward(retain_graph=True)
    once = a.grad.clone()
    denoiser.activate(2)
    output.backward()
    assert torch.equal(a.grad, 2 * once)


def test_an_adapter_changed_before_the_backward_pass_is_an_error():
    denoiser = adapted()
    denoiser.activate(0)
    output = denoiser(image()).sum()
    with torch.no_grad():
        denoiser.layers[-1].lora_B["stage_1"].weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.backward()


def test_a_changed_adapter_is_seen_by_the_next_call():
    denoiser = adapted()
    denoiser.activate(0)
    before = denoiser(image())
    with torch.no_grad():
        denoiser.layers[0].lora_B["stage_1"].weight.mul_(2)
    after = denoiser(image())
    denoiser.compose(False)
    torch.testing.assert_close(denoiser(image()), after)
    assert not torch.allclose(before, after)


def test_a_copy_is_a_network_of_its_own():
    """As averaging weights makes one."""
    denoiser = adapted()
    run(denoiser, image(), composed=True)
    other = copy.deepcopy(denoiser)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.zero_()
    other.activate(1)
    composed = other(image())
    other.compose(False)
    torch.testing.assert_close(other(image()), composed)
    assert not torch.equal(composed, image())


def resunet(channels, width, levels, blocks):
    return ResUNet(channels, [width] * levels, blocks)


def network(sharing, kind=UNet, **settings):
    torch.manual_seed(0)
    net = unfolding_network(sharing, lambda noise_map: kind(1, 24, 2, 1), K, **settings)
    return net.to(memory_format=torch.channels_last)


def step_bytes(sharing, **settings):
    def build():
        return network(sharing, **settings), BlockCSConfig(ratio=25, block=8, initial="adjoint").build()

    return training_step_bytes(build, (4, 1, 32, 32), TrainingConfig(steps=2))


@pytest.mark.parametrize(("kind", "saved"), [(UNet, 0.05), (SpectralTransformer, 0.02), (resunet, 0.05)])
def test_keeps_no_more_activations_than_the_full_network(kind, saved):
    full, composed = step_bytes("block_k", kind=kind), step_bytes("lorun", kind=kind)
    ordinary = step_bytes("lorun", kind=kind, composed=False)
    assert composed.activations <= full.activations < (1 - saved) * ordinary.activations
    assert composed.total < (1 - saved) * min(full.total, ordinary.total)


def test_holds_the_weights_of_one_stage_at_a_time():
    """Composing may cost one set of weights over the parameters themselves, and their gradients, not K."""
    weights = 4 * sum(p.numel() for p in UNet(1, 24, 2, 1).parameters())
    small = step_bytes("lorun", gamma=1)
    assert small.parameters < weights * (1 + 0.1 * K) + 4 * 3 * 8**4
    net, physics = network("lorun"), BlockCSConfig(ratio=25, block=8, initial="adjoint").build()
    y = physics(torch.rand(1, 1, 16, 16))
    output = net(y, physics)
    held = [node for node in graph(output.grad_fn) if "FormBackward" in type(node).__name__]
    assert len(held) == K
    layers = [node for node in graph(output.grad_fn) if "LayerBackward" in type(node).__name__]
    assert layers
    assert all(weight is None for node in layers for weight in node.formation._again)
    output.sum().backward()
    assert all(weight is None for node in layers for weight in node.formation._again)


def test_recomputed_stages_have_the_gradients_of_pefts_forward_pass():
    physics = BlockCSConfig(ratio=25, block=8, initial="adjoint").build(torch.float64)
    x = image(batch=2).repeat(1, 1, 2, 2)
    results = []
    for composed, recompute in [(True, "stage"), (True, "none"), (False, "none")]:
        net = network("lorun", SpectralTransformer, composed=composed).double()
        net.recompute = recompute
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in net.parameter_kinds()["adapters"]:
                parameter.copy_(0.2 * torch.randn(parameter.shape, dtype=torch.float64, generator=generator))
        net(physics(x), physics).sub(x).square().sum().backward()
        results.append({name: p.grad for name, p in net.named_parameters() if p.requires_grad})
    recomputed, kept, ordinary = results
    assert all(torch.equal(recomputed[name], gradient) for name, gradient in kept.items())
    for name, gradient in ordinary.items():
        assert gradient.any(), name
        torch.testing.assert_close(recomputed[name], gradient, msg=name)


def graph(node):
    """All nodes of an autograd graph."""
    found, pending = set(), [node]
    while pending:
        node = pending.pop()
        if node is not None and node not in found:
            found.add(node)
            pending += [following for following, _ in node.next_functions]
    return found


@pytest.mark.parametrize("recompute", ["none", "stage"])
def test_one_compiled_denoiser_serves_all_stages(recompute):
    torch._dynamo.reset()
    physics = BlockCSConfig(ratio=25, block=8, initial="adjoint").build()
    plain, compiled = network("lorun"), network("lorun")
    for net in (plain, compiled):
        net.recompute = recompute
        with torch.no_grad():
            for parameter in net.parameter_kinds()["adapters"]:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    counter = CompileCounterWithBackend("aot_eager")
    compiled.compile(backend=counter)
    x = torch.rand(2, 1, 16, 16)
    for _ in range(2):
        for net in (plain, compiled):
            net.zero_grad()
            net(physics(x), physics).sub(x).square().mean().backward()
    assert counter.frame_count == 1
    for (name, p), q in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        if p.requires_grad:
            torch.testing.assert_close(p.grad, q.grad, msg=name)
