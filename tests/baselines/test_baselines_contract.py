"""What every baseline owes to the rest of the suite, for every kind of operator that it does not decline."""

from importlib import import_module

import numpy as np
import pytest
import torch
from deepinv.physics import Inpainting

import baselines
from lorun.accounting import inference_bytes, reconstruction_flops, training_step_bytes
from lorun.config import BlockCSConfig, CASSIConfig, TrainingConfig
from lorun.errors import LorunError, UnknownName
from lorun.methods import System
from lorun.physics import BlurDownsample, build_physics
from lorun.training.step import make_optimizer, training_step

CONFIGS = {"block_cs": BlockCSConfig(ratio=25, block=8), "cassi": CASSIConfig(bands=4, mask_side=64)}
KINDS = (*CONFIGS, "blur_downsample")
CHANNELS = {"block_cs": [1, 3], "cassi": [4], "blur_downsample": [1, 3]}
PUBLISHED_CHANNELS = {"block_cs": 1, "cassi": 28, "blur_downsample": 3}
"""What the published parameters are counted for."""

TASKS = {"cs": "block_cs", "sr": "blur_downsample"}
"""How cards call a kind, where not by its name."""

STEPS = {"block_cs": 20, "cassi": 60, "blur_downsample": 20}
FALLEN = {"block_cs": 0.9, "cassi": 0.2, "blur_downsample": 0.9}
"""Steps on one patch, and to which part of the first loss they must bring it."""

TRAINING = TrainingConfig(steps=2, phase1_steps=1)


def unfitted(kind, dtype=torch.float32):
    if kind == "blur_downsample":  # a kernel that is not square
        taps = torch.arange(1.0, 16.0, dtype=torch.float64).reshape(5, 3)
        return BlurDownsample([taps / taps.sum()], scale=2, noise=2.55, dtype=dtype)
    return build_physics(CONFIGS[kind], dtype)


def make_physics(kind, dtype=torch.float32):
    operator = unfitted(kind, dtype)
    operator.fit(lambda side, count: [torch.rand(200, 64, dtype=dtype)])
    return operator


def reason(name, kind, channels):
    """Why a baseline declines."""
    return import_module(f"baselines.{name}.baseline").Baseline.declines(make_physics(kind), channels)


EVERY = [(name, kind, channels) for name in baselines.names() for kind in KINDS for channels in CHANNELS[kind]]
DECLINED = {case: why for case in EVERY if (why := reason(*case)) is not None}
TAKEN = [case for case in EVERY if case not in DECLINED]


def named(case):
    return "-".join(map(str, case))


@pytest.fixture(params=[case for case in TAKEN if case[2] == CHANNELS[case[1]][0]], ids=named)
def case(request):
    return request.param


@pytest.fixture
def name(case):
    return case[0]


@pytest.fixture
def channels(case):
    return case[2]


@pytest.fixture
def physics(case):
    return make_physics(case[1])


def build(name, physics, channels):
    torch.manual_seed(0)
    return baselines.build(name, physics, channels)


def images(channels, height, width, batch=2):
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(0))


def trainable(network):
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def test_there_are_baselines_for_every_kind_of_operator():
    taken = {(name, kind) for name, kind, _ in TAKEN}
    assert {("linear_mmse", "block_cs"), ("ista_net_plus", "block_cs")} <= taken
    assert {(name, "cassi") for name in ("gap_tv", "gap_net", "dauhst", "rdluf", "total_variation")} <= taken
    blurred = ("bicubic", "tikhonov", "total_variation", "plug_and_play", "usrnet", "usrnet_tiny", "first_estimate")
    assert {(name, "blur_downsample") for name in blurred} <= taken
    assert {name for name, _ in taken} == set(baselines.names())


@pytest.mark.parametrize("case", DECLINED, ids=named)
def test_what_a_baseline_declines_is_refused_with_the_reason(case):
    name, kind, channels = case
    with pytest.raises(LorunError) as error:
        baselines.build(name, make_physics(kind), channels)
    assert str(error.value) == f"baseline {name} cannot be used here: {DECLINED[case]}"


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("ista_net", "cassi", "it reconstructs blocks, and CASSI has none"),
        ("linear_mmse", "cassi", "the initial estimate of CASSI is not fitted on images"),
        ("plug_and_play", "cassi", "it was made and tuned for photographs of 1 or 3 channels, not 4"),
        ("usrnet", "cassi", "it undoes blur and decimation, and CASSI does neither"),
        ("dauhst", "block_cs", "it reconstructs scenes from a CASSI snapshot, and BlockCS takes none"),
    ],
)
def test_reasons(name, kind, words):
    assert reason(name, kind, CHANNELS[kind][0]) == words


def test_scenes_of_another_number_of_bands_are_declined():
    assert reason("gap_net", "cassi", 28) == "the snapshot has 4 bands, images have 28 channels"


@pytest.mark.parametrize("name", baselines.names())
def test_card_is_complete(name):
    card = baselines.card(name)
    assert card.title
    assert card.licence
    taken = {kind for other, kind, _ in TAKEN if other == name}
    assert {TASKS.get(task, task) for task in card.tasks} & set(KINDS) == taken


@pytest.mark.parametrize("case", TAKEN, ids=named, indirect=True)
def test_estimates_have_the_shape_of_the_image(name, physics, channels):
    network = build(name, physics, channels)
    for size in [(16, 16), (24, 8), (17, 23)]:
        x = images(channels, *size)
        bound = physics.at(*size)
        assert network(bound(x), bound).shape == x.shape


def test_gradients_reach_every_trainable_parameter(name, physics, channels):
    network = build(name, physics, channels)
    x = images(channels, 40, 40)  # large enough for windows to attend to each other
    bound = physics.at(40, 40)
    estimate = network(bound(x), bound)
    if not trainable(network):
        assert not estimate.requires_grad
        return
    (estimate - x).square().mean().backward()
    for parameter_name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.abs().sum() > 0, parameter_name


def test_is_deterministic_and_survives_saving(name, physics, channels):
    x = images(channels, 16, 16)
    network, other = build(name, physics, channels), build(name, physics, channels)
    bound = physics.at(16, 16)
    estimate = network(bound(x), bound)
    assert torch.equal(estimate, other(bound(x), bound))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(network.state_dict())
    assert torch.equal(estimate, other(bound(x), bound))


def test_images_of_a_batch_do_not_see_each_other(case, channels):
    physics = make_physics(case[1], torch.float64)
    network = build(case[0], physics, channels).double()
    bound = physics.at(16, 16)
    y = bound(images(channels, 16, 16).double())
    estimate = network(y, bound)
    assert estimate.dtype == torch.float64
    torch.testing.assert_close(network(y[1:], bound), estimate[1:])


def small(name, physics, channels):
    """With three stages where it can have fewer than the published ones."""
    torch.manual_seed(0)
    baseline = import_module(f"baselines.{name}.baseline").Baseline
    shrinks = "stages" in baseline.__init__.__code__.co_varnames
    return baseline(physics, channels, stages=3) if shrinks else baseline(physics, channels)


def test_overfits_one_patch(case, name, physics, channels):
    network = small(name, physics, channels)
    if not trainable(network):
        pytest.skip("nothing is trained")
    ramp = torch.linspace(0, 1, 16)
    phase = torch.arange(channels)[:, None, None]
    x = (0.5 + 0.4 * torch.sin(6 * ramp[:, None] * ramp + phase))[None]
    bound = physics.at(16, 16)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-4)
    losses = []
    for _ in range(STEPS[case[1]]):
        optimizer.zero_grad()
        loss = (network(bound(x), bound) - x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < FALLEN[case[1]] * losses[0]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_step_moves_the_weights_by_a_finite_amount(name, physics, channels, precision):
    system = System(small(name, physics, channels), physics).to(memory_format=torch.channels_last)
    config = TRAINING.model_copy(update={"precision": precision})
    optimizer = make_optimizer(system, config, torch.device("cpu"))
    if optimizer is None:
        pytest.skip("nothing is trained")
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    before = [parameter.clone() for parameter in trainable(system)]
    bound = physics.for_training(40, np.random.default_rng(0))
    loss = training_step(system, bound, images(channels, 40, 40), optimizer, config)
    assert loss.isfinite()
    after = trainable(system)
    assert all(parameter.isfinite().all() for parameter in after)
    assert not any(torch.equal(*pair) for pair in zip(before, after, strict=True) if pair[0].ndim > 1)


def test_half_precision_changes_the_estimate_by_little(name, physics, channels):
    network = small(name, physics, channels)
    bound = physics.at(16, 16)
    y = bound(images(channels, 16, 16))
    with torch.no_grad():
        exact = network(y, bound)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(y, bound)
    assert (rounded.float() - exact).square().mean().sqrt() < 0.02 * exact.square().mean().sqrt()


def test_is_accounted_for_without_memory(case, name, channels):
    def made():
        operator = unfitted(case[1])
        return small(name, operator, channels), operator.at(16, 16)

    shape = (1, channels, 16, 16)
    network, _ = made()
    if getattr(network, "data_dependent", False):
        assert inference_bytes(made, shape, fake=False).total > 0
        return
    assert reconstruction_flops(made, shape) == reconstruction_flops(made, shape, fake=False)
    assert inference_bytes(made, shape) == inference_bytes(made, shape, fake=False)
    if trainable(network):
        assert training_step_bytes(made, shape, TRAINING) == training_step_bytes(made, shape, TRAINING, fake=False)


@pytest.mark.parametrize("name", baselines.names())
def test_parameters_are_within_2_percent_of_the_published_ones_or_the_card_says_why(name):
    card = baselines.card(name)
    if card.published_parameters_M is None:
        return
    kind = next(kind for other, kind, _ in TAKEN if other == name)
    channels = PUBLISHED_CHANNELS[kind]
    physics = build_physics(CASSIConfig(bands=channels, mask_side=8)) if kind == "cassi" else unfitted(kind)
    ours = sum(p.numel() for p in build(name, physics, channels).parameters())
    off = abs(ours - card.published_network_parameters) / (1e6 * card.published_parameters_M)
    assert (off <= 0.02) == (card.parameters_differ is None), f"{off:.1%} off"


def test_a_physics_that_a_baseline_declines_gives_the_reason():
    with pytest.raises(
        LorunError, match="baseline linear_mmse cannot be used here: Inpainting has no initial estimate"
    ):
        baselines.build("linear_mmse", Inpainting(img_size=(1, 8, 8), mask=0.5), 1)


def test_unknown_baseline_suggests_the_near_one():
    with pytest.raises(UnknownName, match="Did you mean 'ista_net_plus'"):
        baselines.build("ista_net_pluss", make_physics("block_cs"), 1)
