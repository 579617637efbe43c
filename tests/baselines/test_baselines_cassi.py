"""The baselines for CASSI: cubes on the detector, scalings, windows of the mask, and what the networks are made of."""

import sys

import numpy as np
import pytest
import torch

from lorun import plugins
from lorun.accounting.fake import fake_tensors
from lorun.physics.cassi import CASSI, random_mask
from lorun.plugins.cassi import on_detector, on_scene, projected
from lorun.plugins.padding import pad_to_multiple

TRAINED = ("gap_net", "dauhst", "rdluf")
NAMES = ("gap_tv", *TRAINED)
BANDS = 4

dauhst = sys.modules[plugins.load("dauhst").__module__]


def cube(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def mask(side=40):
    return 0.1 + 0.9 * cube(side, side, seed=9)


def operator(**options):
    return CASSI(mask(), bands=BANDS, dtype=torch.float64, **options)


def build(name, physics):
    torch.manual_seed(0)
    return plugins.build(name, physics, BANDS).double()


def smooth_scene(side):
    """(1, BANDS, side, side): a disc and a ramp whose weights change with the band."""
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, side, dtype=torch.float64),) * 2, indexing="ij")
    disc, ramp = (x**2 + y**2 < 0.4).double(), (x + 1) / 2
    return torch.stack([0.2 * b * disc + (0.4 - 0.1 * b) * ramp for b in range(BANDS)])[None]


def error(estimate, truth):
    return (estimate - truth).square().mean().item()


@pytest.mark.parametrize("step", [1, 2, 3])
def test_bands_fall_on_the_detector_as_the_operator_shifts_them(step):
    physics = operator(step=step).at(5, 7)
    x = cube(2, BANDS, 5, 7)
    detector = on_detector(x, step)
    for b in range(BANDS):
        expected = torch.nn.functional.pad(x[:, b], (b * step, (BANDS - 1 - b) * step))
        assert torch.equal(detector[:, b], expected)
    torch.testing.assert_close(detector.sum(1, keepdim=True), physics.shift(x))
    assert torch.equal(on_scene(detector, step), x)
    y = physics.A(x)
    assert torch.equal(on_scene(y.expand(-1, BANDS, -1, -1), step), physics.shift_back(y))


def test_growing_repeats_the_last_row_and_column():
    x = cube(1, 2, 5, 8)
    larger = pad_to_multiple(x, 8)
    assert larger.shape == (1, 2, 8, 8)
    assert torch.equal(larger[:, :, :5], x)
    assert torch.equal(larger[:, :, 5:], x[:, :, 4:5].expand(-1, -1, 3, -1))


def test_the_projection_gives_the_measurement():
    physics = operator().at(12, 15)
    y = physics.A(cube(2, BANDS, 12, 15))
    torch.testing.assert_close(physics.A(projected(cube(2, BANDS, 12, 15, seed=1), y, physics)), y)


@pytest.mark.parametrize("name", NAMES)
def test_the_scaling_of_the_measurement_does_not_matter(name):
    x = smooth_scene(24)
    plain, scaled = operator().at(24, 24), operator(scaling="mst").at(24, 24)
    network = build(name, plain)
    torch.testing.assert_close(network(scaled(x), scaled), network(plain(x), plain))


@pytest.mark.parametrize("name", NAMES)
def test_the_mask_is_that_of_the_operator_that_is_passed(name):
    network = build(name, operator())
    x = smooth_scene(24)
    random = np.random.default_rng(0)
    for bound in (operator().for_training((24, 24), random) for _ in range(2)):
        top, left = bound.corner
        window = CASSI(mask()[top : top + 24, left : left + 24], bands=BANDS, dtype=torch.float64).at(24, 24)
        assert torch.equal(network(bound(x), bound), network(window(x), window))


def test_gap_tv_gains_on_the_first_estimate_and_explains_the_measurement():
    physics = operator().at(40, 40)
    x = smooth_scene(40)
    y = physics(x)
    estimate = plugins.build("gap_tv", physics, BANDS)(y, physics)
    assert error(estimate, x) < 0.2 * error(physics.initial_reconstruction(y), x)
    assert error(physics.A(estimate), y) < 1e-3


def test_gap_tv_smooths_band_by_band():
    total_variation = sys.modules[plugins.build("gap_tv", operator(), BANDS).__module__].total_variation
    v = cube(2, BANDS, 16, 16)
    alone = torch.cat([total_variation(v[:, b : b + 1], 0.1) for b in range(BANDS)], dim=1)
    torch.testing.assert_close(total_variation(v, 0.1), alone)


def test_networks_may_start_from_a_smooth_scene_that_explains_the_measurement():
    physics = operator().at(40, 40)
    started = CASSI(mask(), bands=BANDS, initial="smooth", dtype=torch.float64).at(40, 40)
    x = smooth_scene(40)
    y = physics(x)
    estimate = started.initial_reconstruction(y)
    assert error(estimate, x) < 0.5 * error(physics.initial_reconstruction(y), x)
    assert error(physics.A(estimate), y) < 0.1
    torch.testing.assert_close(started.initial_reconstruction(3 * y), 3 * estimate)
    with fake_tensors():
        fake = CASSI(torch.ones(40, 40), bands=BANDS, initial="smooth").at(40, 40)
        assert fake.initial_reconstruction(fake.A(torch.ones(1, BANDS, 40, 40))).shape == x.shape


@pytest.mark.parametrize(("stages", "published"), [(2, 1.40), (3, 2.08), (5, 3.44), (9, 6.15)])
def test_dauhst_has_the_published_parameters_at_every_published_number_of_stages(stages, published):
    network = plugins.build("dauhst", CASSI(random_mask(8, 8, 0)), 28, stages=stages)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == published


@pytest.mark.parametrize("scaling", ["none", "mst"])
def test_the_data_step_of_dauhst_solves_its_least_squares_problem(scaling):
    physics = operator(scaling=scaling).at(6, 7)
    y, z = physics.A(cube(2, BANDS, 6, 7)), cube(2, BANDS, 6, 7, seed=1)
    alpha = torch.tensor([0.3, 2.0], dtype=torch.float64)
    x = dauhst.data_step(z, y, physics, alpha)
    gradient = physics.A_adjoint(physics.A(x) - y) / physics.gain**2 + alpha[:, None, None, None] * (x - z)
    assert gradient.abs().max() < 1e-10


def test_windows_are_put_together_again():
    h = cube(2, 16, 24, 5)
    assert torch.equal(dauhst.windows(h)[1, 4], h[1, 8:16, 8:16].reshape(64, 5))
    assert torch.equal(dauhst.whole(dauhst.windows(h), (2, 3)), h)


def test_half_of_the_heads_attend_within_windows_and_half_across_them():
    torch.manual_seed(0)
    attention = dauhst.HalfShuffleAttention(2).double()
    with torch.no_grad():
        attention.out.weight.copy_(torch.eye(56))
    h = cube(1, 16, 24, 56).requires_grad_()
    within, across = attention(h)[0, 9, 10].chunk(2)  # row 1 and column 2 of the window in the middle below
    seen = torch.autograd.grad(within.sum(), h, retain_graph=True)[0][0].abs().sum(-1) > 0
    assert seen[8:, 8:16].all()
    assert seen.sum() == 64
    seen = torch.autograd.grad(across.sum(), h)[0][0].abs().sum(-1) > 0
    assert seen[1::8, 2::8].all()
    assert seen.sum() == 6


def pairs(height, width):
    """A table (1, N, N) that is linear in the relative places of both windows of a pair."""
    rows = (torch.arange(height, dtype=torch.float64) + 0.5) / height
    columns = (torch.arange(width, dtype=torch.float64) + 0.5) / width
    place = (rows[:, None] + 3 * columns).flatten()
    return (place[:, None] - 2 * place)[None]


def test_positions_of_windows_are_interpolated_along_the_sides_of_the_grid():
    known = pairs(4, 6)
    assert dauhst.resized(known, (4, 6), (4, 6)) is known
    enlarged = dauhst.resized(known, (4, 6), (8, 9)).reshape(8, 9, 8, 9)
    inside = (slice(1, -1),) * 4  # where there are known places on both sides
    torch.testing.assert_close(enlarged[inside], pairs(8, 9).reshape(8, 9, 8, 9)[inside])


def test_a_smaller_grid_of_windows_reads_all_known_positions():
    known = pairs(16, 20).requires_grad_()
    dauhst.resized(known, (16, 20), (2, 2)).sum().backward()
    assert (known.grad > 0).all()


def test_rdluf_shares_the_weights_of_all_stages_but_the_first_and_the_last():
    physics = CASSI(random_mask(8, 8, 0))
    counts = {
        stages: sum(p.numel() for p in plugins.build("rdluf", physics, 28, stages=stages).parameters())
        for stages in (3, 9)
    }
    assert counts[3] == counts[9]
    assert counts[9] + 45_808 == 1_893_501  # what the first stage would have if there were one before it


def test_rdluf_s_body_is_as_many_stages_as_there_are_between():
    physics = operator().at(16, 16)
    y = physics(smooth_scene(16))
    calls = []
    network = build("rdluf", physics)
    network.body.transformer.register_forward_hook(lambda *_: calls.append(1))
    network(y, physics)
    assert len(calls) == 7


@pytest.mark.parametrize("name", TRAINED)
def test_nothing_of_the_operator_is_kept_with_the_network(name):
    network = plugins.build(name, operator(), BANDS)
    assert not list(network.buffers())
    assert set(network.state_dict()) == {parameter for parameter, _ in network.named_parameters()}
