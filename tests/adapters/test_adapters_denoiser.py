import math

import pytest
import torch
from peft import PeftModel
from tiny import unfolding_network
from torch import nn

from lorun.adapters import AdaptedDenoiser, StageConv2d, adaptable_layers, rank
from lorun.config import AdapterConfig
from lorun.denoisers.cnn import CNN
from lorun.denoisers.resunet import ResUNet
from lorun.denoisers.spectral import SpectralTransformer
from lorun.denoisers.unet import UNet
from lorun.errors import LorunError
from lorun.physics.block_cs import BlockCSConfig

K = 3


class Mixed(nn.Module):
    """One layer of every kind that is adapted: 3x3, strided, 1x1 and biased convolutions, and linear layers."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.biased = nn.Conv2d(8, 6, 3, padding=1)
        self.uneven = nn.Conv2d(6, 6, (1, 3), padding=(0, 1))
        self.pointwise = nn.Conv2d(6, 4, 1)
        self.strided = nn.Conv2d(4, 8, 2, stride=2)
        self.linear = nn.Linear(8, 4)
        self.plain = nn.Linear(4, 4, bias=False)

    def forward(self, z):
        h = self.strided(self.pointwise(self.uneven(torch.relu(self.biased(self.conv(z))))))
        h = self.plain(torch.relu(self.linear(h.movedim(1, -1)))).movedim(-1, 1)
        return nn.functional.pixel_shuffle(h, 2)


class PassedOver(nn.Module):
    """Between layers that are adapted, everything that LoRA passes over; names end alike."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.inner = nn.ModuleDict({"conv": nn.Conv2d(6, 6, 3, padding=1, groups=6), "out": nn.PReLU(6)})
        self.norm = nn.LayerNorm(6)
        self.out = nn.Linear(6, 1)
        self.temperature = nn.Parameter(torch.full((2,), 0.7))
        self.gain = nn.Parameter(torch.tensor(1.3))

    def forward(self, z):
        h = self.inner["out"](self.inner["conv"](self.conv(z))).movedim(1, -1)
        return self.gain * z + self.temperature.prod() * self.out(self.norm(h)).movedim(-1, 1)


PASSED_OVER = ["gain", "inner.conv.bias", "inner.conv.weight", "inner.out.weight", "norm.bias", "norm.weight"]
PASSED_OVER += ["temperature"]


class Square(Mixed):
    """As `Mixed`, with square kernels alone, as loralib's layout needs them."""

    def __init__(self):
        super().__init__()
        self.uneven = nn.Conv2d(6, 6, 3, padding="same")


LAYOUTS = [(Mixed, "peft"), (Square, "loralib")]


class Doubling(nn.Module):
    """Transposed convolutions, with a bias, overlapping and padded ones too."""

    def __init__(self):
        super().__init__()
        self.halve = nn.Conv2d(1, 6, 2, stride=2)
        self.enlarge = nn.ConvTranspose2d(6, 8, 2, stride=2, bias=False)
        self.overlap = nn.ConvTranspose2d(8, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 1, 1)

    def forward(self, z):
        return z + self.last(torch.relu(self.overlap(torch.relu(self.enlarge(self.halve(z))))))


def adapted(make=Mixed, gamma=25.0, moved=True, **options):
    torch.manual_seed(0)
    denoiser = AdaptedDenoiser(make().double(), K, gamma, **options).double()
    if moved:
        with torch.no_grad():
            for name, parameter in denoiser.named_parameters():
                if "lora_" in name:
                    parameter.copy_(0.3 * torch.randn_like(parameter))
    return denoiser


def image():
    return torch.rand(1, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def unfolding(sharing="lorun", kind=UNet):
    torch.manual_seed(0)
    return unfolding_network(sharing, lambda noise_map: kind(1, 8, 2, 1), K)


@pytest.fixture
def physics():
    return BlockCSConfig(ratio=25, block=8, initial="adjoint").build()


@pytest.mark.parametrize("kind", [UNet, SpectralTransformer])
def test_at_initialisation_every_stage_is_the_base(physics, kind):
    x = torch.rand(2, 1, 16, 16)
    y = physics(x)
    lorun, shared = unfolding("lorun", kind), unfolding("shared", kind)
    torch.testing.assert_close(lorun(y, physics), shared(y, physics))
    torch.manual_seed(0)
    base = Mixed().double()
    denoiser = adapted(moved=False)
    for stage in range(K):
        denoiser.activate(stage)
        torch.testing.assert_close(denoiser(image()), base(image()))


@pytest.mark.parametrize("kind", [UNet, SpectralTransformer])
def test_after_one_step_every_stage_has_moved_and_no_base_weight_has(physics, kind):
    net = unfolding(kind=kind)
    base = {name: p.clone() for name, p in net.denoisers[0].base_parameters().items()}
    start = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=1e-2)
    x = torch.rand(2, 1, 16, 16)
    (net(physics(x), physics) - x).square().mean().backward()
    lora_b = [name for name, _ in net.named_parameters() if "lora_B" in name]
    assert len(lora_b) == K * len(adaptable_layers(kind(1, 8, 2, 1)))
    for name, parameter in net.named_parameters():
        if "lora_" in name:
            assert parameter.grad is not None, name
        if "lora_B" in name:  # A waits: its gradient is zero while B is
            assert parameter.grad.abs().max() > 0, name
    optimizer.step()
    for name, parameter in net.named_parameters():
        if "lora_B" in name:
            assert not torch.equal(parameter, start[name]), name
    assert all(torch.equal(p, base[name]) for name, p in net.denoisers[0].base_parameters().items())


def test_stages_do_not_share_an_adapter():
    denoiser = adapted()
    outputs = []
    for stage in range(K):
        denoiser.activate(stage)
        outputs.append(denoiser(image()))
    assert all(not torch.allclose(a, b) for i, a in enumerate(outputs) for b in outputs[:i])


def test_choosing_a_stage_freezes_no_other():
    """As peft's own `set_adapter` would: the trap that trains the last stage only."""
    denoiser = adapted()
    for stage in range(K):
        denoiser.activate(stage)
    trainable = [name for name, p in denoiser.named_parameters() if p.requires_grad]
    for stage in range(K):
        assert sum(f"stage_{stage + 1}." in name for name in trainable) == 2 * len(denoiser.base_parameters()) - 2 * 5


def test_composed_and_ordinary_forward_agree_with_gradients():
    results = {}
    for composed in (True, False):
        denoiser = adapted()
        denoiser.compose(composed)
        denoiser.activate(1)
        output = denoiser(image())
        output.square().sum().backward()
        gradients = {name: p.grad for name, p in denoiser.named_parameters() if "stage_2" in name}
        results[composed] = output, gradients
    torch.testing.assert_close(results[True][0], results[False][0])
    assert results[True][1].keys() == results[False][1].keys()
    for name, gradient in results[True][1].items():
        torch.testing.assert_close(gradient, results[False][1][name], msg=name)


@pytest.mark.parametrize("layout", ["peft", "loralib"])
@pytest.mark.parametrize("layer", ["enlarge", "overlap"])
def test_merged_and_unmerged_transposed_convolutions_agree(layer, layout):
    denoiser = adapted(Doubling, layout=layout)
    denoiser.activate(1)
    before = denoiser(image())
    getattr(denoiser.base, layer).merge()
    torch.testing.assert_close(denoiser(image()), before)
    getattr(denoiser.base, layer).unmerge()
    torch.testing.assert_close(denoiser(image()), before)


@pytest.mark.parametrize(("make", "layout"), LAYOUTS)
@pytest.mark.parametrize("layer", ["conv", "biased", "uneven", "pointwise", "strided", "linear", "plain"])
def test_merged_and_unmerged_agree_for_every_layer_kind(layer, make, layout):
    denoiser = adapted(make, layout=layout)
    denoiser.activate(1)
    before = denoiser(image())
    one = getattr(denoiser.base, layer)
    one.merge()
    assert one.merged
    torch.testing.assert_close(denoiser(image()), before, rtol=0, atol=1e-5)
    one.unmerge()
    torch.testing.assert_close(denoiser(image()), before, rtol=0, atol=1e-5)


def test_disabling_the_adapters_gives_the_base():
    torch.manual_seed(0)
    base = Mixed().double()
    denoiser = adapted()
    with denoiser.model.disable_adapter():
        torch.testing.assert_close(denoiser(image()), base(image()))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.ConvTranspose2d(4, 4, 2, stride=2, output_padding=1), r"`output_padding` \(=\(1, 1\)\) must be 0"),
        (nn.ConvTranspose2d(4, 4, 2, groups=4), r"`groups` \(=4\) must be 1"),
        (nn.Conv2d(4, 4, 3, groups=2), r"`groups` \(=2\) must be 1"),
        (nn.Conv2d(4, 8, 3, groups=4), r"`groups` \(=4\) must be 1"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "'reflect'"),
        (nn.Conv2d(4, 4, 3, dilation=2), "`dilation`"),
        (nn.Conv2d(4, 4, 2, padding="same"), r"`kernel_size` \(=\(2, 2\)\) must be odd"),
        (nn.BatchNorm2d(4), "BatchNorm2d"),
        (nn.Conv1d(4, 4, 3, groups=4), "Conv1d"),
        (nn.LayerNorm((4, 4)), "LayerNorm"),
        (nn.ParameterList([torch.ones(4), torch.ones(4, 4)]), "ParameterList"),
    ],
)
def test_layers_that_lora_cannot_adapt_are_refused_by_name(layer, reason):
    denoiser = nn.Sequential(nn.Conv2d(1, 4, 3), layer)
    with pytest.raises(LorunError, match=rf"`1` .*{reason}"):
        AdaptedDenoiser(denoiser, K, 10)


def test_bare_matrices_are_refused_by_name():
    class Positioned(CNN):
        def __init__(self):
            super().__init__(1, 4, 3)
            self.scale = nn.Parameter(torch.ones(1))
            self.position = nn.Parameter(torch.ones(1, 4))

    with pytest.raises(LorunError, match="Positioned"):
        adaptable_layers(Positioned())


def test_what_lora_passes_over_is_the_bases_in_every_stage(physics):
    assert adaptable_layers(PassedOver()).keys() == {"conv", "out"}
    net = unfolding_network("lorun", lambda noise_map: PassedOver(), K)
    denoiser = net.denoisers[0]
    assert denoiser.ranks.keys() == {"conv", "out"}
    base = denoiser.base_parameters()
    assert sorted(base) == sorted([*PASSED_OVER, "conv.bias", "conv.weight", "out.bias", "out.weight"])
    assert {id(p) for p in base.values()} == {id(p) for p in net.parameter_kinds()["base"]}
    before = {name: p.clone() for name, p in base.items()}
    trained = [p for p in net.parameters() if p.requires_grad]
    assert {id(p) for p in trained} == {id(p) for p in [*net.parameter_kinds()["adapters"], net.step_sizes]}
    x = torch.rand(2, 1, 16, 16)
    net(physics(x), physics).square().mean().backward()
    torch.optim.Adam(net.parameters(), lr=0.1).step()
    assert all(p.grad is not None for p in trained)
    assert all(p.grad is None and torch.equal(p, before[name]) for name, p in base.items())


def test_what_lora_passes_over_comes_with_the_base(physics):
    torch.manual_seed(0)
    pretrained = unfolding_network("block1", lambda noise_map: PassedOver(), 1)
    with torch.no_grad():
        for parameter in pretrained.parameters():
            parameter.add_(0.5)
    x = torch.rand(1, 1, 16, 16)
    expected = pretrained(physics(x), physics)
    one = unfolding_network("lorun", lambda noise_map: PassedOver(), 1)
    one.load_base(pretrained.state_dict())
    torch.testing.assert_close(one(physics(x), physics), expected)
    state = pretrained.state_dict()
    del state["denoisers.0.temperature"]
    with pytest.raises(LorunError, match="does not fit at `temperature`"):
        one.load_base(state)


@pytest.mark.parametrize(
    ("size", "gamma", "expected"),
    [((64, 64), 10, 7), ((64, 32), 10, 4), ((100, 100), 10, 10), ((1, 64), 10, 1), ((30, 90), 10, 3), ((8, 8), 100, 8)],
)
def test_rank_is_the_papers_rule(size, gamma, expected):
    assert rank(nn.Linear(*size), gamma) == expected == math.ceil(min(size) * gamma / 100 - 1e-12)


def test_adapter_sizes_by_hand():
    denoiser = adapted(lambda: CNN(1, width=20, depth=3), gamma=10)
    # 1 -> 20: r = 1; 20 -> 20: r = 2; 20 -> 1: r = 1.  A is 3x3 from `in` to r, B is 1x1 from r to `out`.
    per_stage = (9 * 1 * 1 + 1 * 20) + (9 * 20 * 2 + 2 * 20) + (9 * 20 * 1 + 1 * 1)
    lora = [p for name, p in denoiser.named_parameters() if "lora_" in name]
    assert sum(p.numel() for p in lora) == K * per_stage
    assert all(layer.scaling[f"stage_{k + 1}"] == 1 for layer in denoiser.layers for k in range(K))


def test_adapter_sizes_of_loralibs_layout_by_hand():
    denoiser = adapted(lambda: CNN(1, width=20, depth=3), gamma=10, layout="loralib")
    # 1 -> 20: r = 1; 20 -> 20: r = 2; 20 -> 1: r = 1.  A is (3 r, 3 in), B is (3 out, 3 r).
    per_stage = (3 * 1 * 3 * 1 + 3 * 20 * 3 * 1) + 2 * (3 * 2 * 3 * 20) + (3 * 1 * 3 * 20 + 3 * 1 * 3 * 1)
    lora = [p for name, p in denoiser.named_parameters() if "lora_" in name]
    assert sum(p.numel() for p in lora) == K * per_stage


@pytest.mark.parametrize("layout", ["peft", "loralib"])
@pytest.mark.parametrize(("scaling", "scale"), [("one", 1), ("alpha_over_r", 8 / 2), ("alpha_over_sqrt_r", 8 / 2**0.5)])
def test_scale_is_that_of_the_setting(scaling, scale, layout):
    alpha = 1 if scaling == "one" else 8
    denoiser = adapted(gamma=25, layout=layout, scaling=scaling, alpha=alpha, layers="biased", make=Square)
    [layer] = denoiser.layers
    assert layer.r["stage_2"] == 2
    assert layer.scaling["stage_2"] == pytest.approx(scale)
    b, a = (half["stage_2"].weight.flatten(1) for half in (layer.lora_B, layer.lora_A))
    denoiser.activate(1)
    change = (layer.composed_weight() - layer.base_layer.weight).flatten()
    torch.testing.assert_close(change, scale * (b @ a).flatten())


def test_alpha_without_a_scaling_is_an_error():
    with pytest.raises(ValueError, match=r"`alpha` \(=8\) needs a `scaling`"):
        AdapterConfig(alpha=8)


def test_layers_are_chosen_by_their_whole_names():
    denoiser = adapted(layers="conv|p.*")
    assert list(denoiser.ranks) == ["conv", "pointwise", "plain"]
    trainable = {name.split(".lora_")[0] for name, p in denoiser.named_parameters() if p.requires_grad}
    assert trainable == {f"model.base_model.model.{name}" for name in ("conv", "pointwise", "plain")}
    assert adaptable_layers(nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)), pattern="0").keys() == {"0"}


def test_a_pattern_that_matches_no_layer_is_an_error_with_their_names():
    with pytest.raises(LorunError, match=r"`layers` \(='on'\) matches no layer; choose from conv, biased, uneven"):
        adapted(layers="on")
    with pytest.raises(ValueError, match="not a regular expression"):
        AdapterConfig(layers="(")


def test_loralibs_layout_needs_square_kernels():
    with pytest.raises(LorunError, match=r"`uneven` .*`kernel_size` \(=\(1, 3\)\) must be square"):
        adapted(layout="loralib")


def test_names_that_end_alike_get_their_own_ranks():
    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 40, 1)
            self.inner = nn.ModuleDict({"conv": nn.Conv2d(40, 40, 1), "out": nn.Conv2d(40, 1, 1)})

        def forward(self, z):
            return self.inner["out"](self.inner["conv"](self.conv(z)))

    denoiser = AdaptedDenoiser(Nested(), 1, 10)
    assert {layer.r["stage_1"] for layer in denoiser.layers if layer.in_features == layer.out_features} == {4}
    assert [layer.r["stage_1"] for layer in denoiser.layers if 1 in (layer.in_features, layer.out_features)] == [1, 1]


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (Mixed, {}),
        (PassedOver, {}),
        (lambda: SpectralTransformer(1, 8, 2), {}),
        (Doubling, {}),
        (lambda: ResUNet(1, (8, 16), 1), {}),
        (Mixed, {"scaling": "alpha_over_sqrt_r", "alpha": 3, "layers": "biased|linear"}),
        (Square, {"layout": "loralib"}),
        (PassedOver, {"layout": "loralib", "scaling": "alpha_over_r", "alpha": 3}),
        (lambda: SpectralTransformer(1, 8, 2), {"layout": "loralib", "scaling": "alpha_over_sqrt_r", "alpha": 3}),
        (Doubling, {"layout": "loralib", "scaling": "alpha_over_r", "alpha": 3}),
        (lambda: ResUNet(1, (8, 16), 1), {"layout": "loralib"}),
    ],
)
def test_saved_stages_load_into_plain_peft(tmp_path, make, options):
    denoiser = adapted(make, **options)
    denoiser.save(tmp_path / "adapters")
    for stage in range(K):
        torch.manual_seed(0)
        plain = PeftModel.from_pretrained(make().double(), str(tmp_path / "adapters" / f"stage_{stage + 1}"))
        assert not any(isinstance(module, StageConv2d) for module in plain.modules())
        denoiser.activate(stage)
        torch.testing.assert_close(plain(image()), denoiser(image()))


@pytest.mark.parametrize(("make", "layout"), [*LAYOUTS, (Doubling, "peft"), (Doubling, "loralib")])
def test_saving_and_loading_stages(tmp_path, make, layout):
    denoiser = adapted(make, layout=layout)
    denoiser.save(tmp_path / "adapters")
    other = adapted(make, moved=False, layout=layout)
    other.load(tmp_path / "adapters")
    for stage in range(K):
        for one in (denoiser, other):
            one.activate(stage)
        assert torch.equal(denoiser(image()), other(image()))
    assert all(p.requires_grad == ("lora_" in name) for name, p in other.named_parameters())
    assert all(torch.equal(p, q) for p, q in zip(denoiser.parameters(), other.parameters(), strict=True))


def test_adapters_that_do_not_fit_are_refused(tmp_path):
    adapted().save(tmp_path / "adapters")
    with pytest.raises(LorunError, match="stage_1.*does not fit the network at `.*lora_A.weight`"):
        adapted(gamma=50).load(tmp_path / "adapters")
    (tmp_path / "adapters/stage_2/adapter_model.safetensors").unlink()
    with pytest.raises(LorunError, match="stage_2.*missing; the network has 3 stages"):
        adapted().load(tmp_path / "adapters")


def test_adapters_of_another_layout_are_refused(tmp_path):
    adapted(Square, layout="loralib").save(tmp_path / "loralib")
    with pytest.raises(LorunError, match="stage_1.*does not fit the network at `.*biased.lora_A.weight`"):
        adapted(Square).load(tmp_path / "loralib")
    adapted(lambda: nn.Sequential(nn.Conv2d(8, 8, 2)), gamma=50).save(tmp_path / "peft")  # of rank 4, as 1 of loralib
    with pytest.raises(LorunError, match="stage_1.*at `0`: A is not 2 times the same matrix on a diagonal"):
        adapted(lambda: nn.Sequential(nn.Conv2d(8, 8, 2)), gamma=10, layout="loralib").load(tmp_path / "peft")


@pytest.mark.parametrize("layout", ["peft", "loralib"])
def test_adapters_of_another_scale_are_refused(tmp_path, layout):
    adapted(Doubling, layout=layout, scaling="alpha_over_r", alpha=3).save(tmp_path / "adapters")
    denoiser = adapted(Doubling, layout=layout, moved=False)
    before = [p.clone() for p in denoiser.parameters()]
    with pytest.raises(LorunError, match="adapter_config.json: made with alpha .* at `.*halve`, the network has"):
        denoiser.load(tmp_path / "adapters")
    assert all(torch.equal(p, q) for p, q in zip(denoiser.parameters(), before, strict=True))
    (tmp_path / "adapters/stage_1/adapter_config.json").write_text("[]")
    with pytest.raises(LorunError, match="not a configuration of peft"):
        denoiser.load(tmp_path / "adapters")


def random_states(make):
    states = []
    for stage in range(K):
        torch.manual_seed(10 + stage)
        states.append(make().double().state_dict())
    return states


@pytest.mark.parametrize("scaling", ["one", "alpha_over_r"])
@pytest.mark.parametrize("layout", ["peft", "loralib"])
def test_a_decomposition_at_full_rank_has_the_weights_of_every_stage(layout, scaling):
    def make():
        return nn.Sequential(
            nn.Conv2d(8, 6, 3), nn.Conv2d(6, 4, 1), nn.ConvTranspose2d(4, 3, 2, stride=2), nn.Linear(4, 4)
        )

    denoiser = adapted(make, gamma=100, layout=layout, scaling=scaling, alpha=1 if scaling == "one" else 3)
    states = random_states(make)
    denoiser.decompose(states)
    for stage, state in enumerate(states):
        denoiser.activate(stage)
        for name, layer in denoiser.named_layers.items():
            torch.testing.assert_close(layer.out_first(layer.composed_weight()), state[f"{name}.weight"])


@pytest.mark.parametrize("scaling", ["one", "alpha_over_r"])
@pytest.mark.parametrize(("make", "layout"), LAYOUTS)
def test_the_error_of_a_decomposition_is_in_the_singular_values_that_it_drops(make, layout, scaling):
    denoiser = adapted(make, gamma=25, layout=layout, scaling=scaling, alpha=1 if scaling == "one" else 3)
    base = {name: p.clone() for name, p in denoiser.base_parameters().items()}
    states = random_states(make)
    denoiser.decompose(states)
    for stage, state in enumerate(states):
        denoiser.activate(stage)
        for name, layer in denoiser.named_layers.items():
            kernel = (
                layer.base_layer.weight.shape[2] if layout == "loralib" and layer.base_layer.weight.dim() > 2 else 1
            )
            change = (state[f"{name}.weight"] - base[f"{name}.weight"]).reshape(
                len(layer.base_layer.weight) * kernel, -1
            )
            dropped = torch.linalg.svdvals(change)[layer.r[f"stage_{stage + 1}"] * kernel :]
            error = (layer.composed_weight() - state[f"{name}.weight"]).norm()
            torch.testing.assert_close(error, dropped.norm(), rtol=1e-6, atol=1e-12)
    assert all(torch.equal(p, base[name]) for name, p in denoiser.base_parameters().items())


def test_a_decomposition_of_the_base_can_still_be_trained():
    denoiser = adapted()
    denoiser.decompose([denoiser.base_parameters()] * K)
    torch.testing.assert_close(denoiser(image()), adapted(moved=False)(image()))
    denoiser(image()).square().sum().backward()
    assert all(layer.lora_B["stage_1"].weight.grad.any() for layer in denoiser.layers)


def test_states_that_do_not_fit_are_refused():
    denoiser, states = adapted(), random_states(Mixed)
    with pytest.raises(LorunError, match="2 states for 3 stages"):
        denoiser.decompose(states[:2])
    del states[1]["linear.weight"]
    with pytest.raises(LorunError, match=r"state 2: shape None instead of \(4, 8\) at `linear.weight`"):
        denoiser.decompose(states)


def test_composition_is_not_rounded_under_autocast():
    """W + BA in bfloat16 would lose a BA 1000 times smaller than W; the adapter's effect would vanish."""
    denoiser = AdaptedDenoiser(nn.Sequential(nn.Conv2d(1, 8, 3)), 1, 25)
    layer = denoiser.layers[0]
    with torch.no_grad():
        layer.lora_A["stage_1"].weight.fill_(1e-2)
        layer.lora_B["stage_1"].weight.fill_(1e-3)
    with torch.autocast("cpu", torch.bfloat16):
        delta = layer.composed_weight() - layer.get_base_layer().weight
    assert delta.dtype == torch.float32
    torch.testing.assert_close(delta, layer.get_delta_weight("stage_1"), rtol=1e-2, atol=1e-8)
