"""The baselines for blur and decimation: interpolation, closed forms, and what the networks are made of."""

import numpy as np
import pytest
import torch
from scipy.interpolate import CubicHermiteSpline
from skimage.restoration import uft, wiener

from lorun import plugins
from lorun.errors import LorunError
from lorun.physics._tikhonov import FLAT, error_variance, tikhonov
from lorun.physics.blur_downsample import BlurDownsample
from lorun.plugins.usrnet import Constants, ResUNet
from lorun.system import System
from lorun.training.released import load_released

UNTRAINED = ("bicubic", "tikhonov", "total_variation", "plug_and_play")


def image(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def operator(kernel=None, size=None, dtype=torch.float64, **options):
    kernel = image(5, 3, seed=7) if kernel is None else kernel
    physics = BlurDownsample([kernel / kernel.sum()], dtype=dtype, **options)
    return physics if size is None else physics.at(*size)


def build(name, physics, channels=1):
    torch.manual_seed(0)
    return plugins.build(name, physics, channels).to(physics.kernel.dtype)


def scene(height, width):
    """(1, 3, height, width): a disc on a ramp, with other weights in each channel."""
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float64) for n in (height, width)), indexing="ij")
    disc = (x**2 + y**2 < 0.4).double()
    return torch.stack([(0.2 + 0.2 * c) * disc + (0.3 - 0.1 * c) * (x + 1) / 2 for c in range(3)])[None]


def error(estimate, truth):
    return (estimate - truth).square().mean().item()


def hermite(values, scale):
    """Keys' interpolant of a sequence as what it is: cubic pieces whose slopes are those of central differences."""
    at = np.arange(-2, len(values) + 2)
    known = np.pad(values, 2, mode="edge")
    spline = CubicHermiteSpline(at[1:-1], known[1:-1], (known[2:] - known[:-2]) / 2)
    return spline(np.arange(len(values) * scale) / scale)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("initial", ["tikhonov", "nearest"])
def test_bicubic_is_scipy_s_hermite_spline_for_any_initial_reconstruction(scale, initial):
    y = image(1, 2, 6, 7)
    physics = operator(scale=scale, initial=initial)
    ours = build("bicubic", physics, 2)(y, physics)
    rows = np.apply_along_axis(hermite, 2, y.numpy(), scale)
    np.testing.assert_allclose(ours.numpy(), np.apply_along_axis(hermite, 3, rows, scale), atol=1e-12)


@pytest.mark.parametrize("size", [(12, 18), (11, 13)])
def test_the_smooth_initial_reconstruction_is_the_baseline(size):
    physics = operator(scale=3, initial="smooth", noise=2.55)
    y = physics(image(1, 2, *size))
    assert torch.equal(physics.initial_reconstruction(y), build("tikhonov", physics, 2)(y, physics))


def test_bicubic_ends_where_the_image_does():
    physics = operator(scale=3, size=(16, 17))
    y = image(1, 1, 6, 6)
    whole = operator(scale=3)
    network = build("bicubic", physics)
    assert torch.equal(network(y, physics), network(y, whole)[..., :16, :17])


def test_bicubic_does_not_support_scale_1():
    with pytest.raises(LorunError, match="bicubic cannot be used here: at scale 1 there is nothing to enlarge"):
        build("bicubic", operator(scale=1))


@pytest.mark.parametrize("size", [(24, 20), (15, 17)])
@pytest.mark.parametrize("noise", [0.0, 7.65])
def test_tikhonov_without_decimation_is_scikit_image_s_wiener_filter(size, noise):
    physics = operator(noise=noise, size=size)
    y = physics(image(1, 1, *size))
    laplacian, _ = uft.laplacian(2, size)  # |D|^2; scikit-image squares what it is given
    differences = np.sqrt(laplacian.real + FLAT) + 0j
    strength = error_variance(physics) / (30 / 255) ** 2
    theirs = wiener(y[0, 0].numpy(), physics.kernel.numpy(), strength, reg=differences, clip=False)
    np.testing.assert_allclose(build("tikhonov", physics)(y, physics)[0, 0].numpy(), theirs, atol=1e-9)


@pytest.mark.parametrize(
    ("scale", "size", "tolerance"),
    [(2, (8, 12), 1e-9), (3, (9, 12), 1e-9), (4, (12, 8), 1e-9), (2, (7, 9), 1e-4), (3, (11, 13), 1e-4)],
)
@pytest.mark.parametrize("noise", [0.0, 2.55])
def test_tikhonov_is_the_solution_of_its_normal_equations(scale, size, tolerance, noise):
    """Sides that the scale divides, and others, for which it is iterated."""
    physics = operator(scale=scale, noise=noise, size=size)
    n = size[0] * size[1]
    pixels = torch.eye(n, dtype=torch.float64).reshape(n, 1, *size)
    a = physics.A(pixels).flatten(1).T
    d = torch.cat([(pixels.roll(1, axis) - pixels).flatten(1).T for axis in (2, 3)])
    y = physics.A(image(1, 1, *size))
    strength = error_variance(physics) / (25 / 255) ** 2
    penalty = strength * (d.T @ d + FLAT * torch.eye(n, dtype=torch.float64))
    exact = torch.linalg.solve(a.T @ a + penalty, a.T @ y.flatten())
    found = tikhonov(y, physics, difference=25.0).flatten()
    torch.testing.assert_close(found, exact, rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [(24, 24), (23, 25)])
def test_tikhonov_in_single_precision_keeps_the_mean(size):
    physics = operator(scale=3, size=size, dtype=torch.float32)
    y = torch.full((1, 1, 8, 9 if size[1] > 24 else 8), 0.7)
    torch.testing.assert_close(
        build("tikhonov", physics)(y, physics), torch.full((1, 1, *size), 0.7), rtol=0, atol=1e-4
    )


def test_the_error_of_a_measurement_is_its_noise_and_rounding():
    assert error_variance(operator(noise=2.55)) == pytest.approx(1e-4)
    assert error_variance(operator(noise=2.55, quantisation="usrnet_uint8")) == pytest.approx(1e-4 + 1 / 12 / 255**2)
    assert error_variance(operator()) > 0


@pytest.mark.parametrize("name", UNTRAINED[1:])
@pytest.mark.parametrize(("scale", "noise"), [(2, 0.0), (3, 2.55)])
def test_better_than_interpolation_and_consistent_with_the_measurement(name, scale, noise):
    physics = operator(scale=scale, noise=noise, size=(36, 48))
    x = scene(36, 48)
    y = physics(x)
    estimate = build(name, physics, 3)(y, physics)
    interpolated = build("bicubic", physics, 3)(y, physics)
    assert error(estimate, x) < 0.9 * error(interpolated, x)
    assert error(physics.A(estimate), physics.A(x)) < 0.2 * error(physics.A(interpolated), physics.A(x))


@pytest.mark.parametrize("name", ["total_variation", "plug_and_play"])
def test_priors_gain_on_the_estimate_that_they_start_from(name):
    physics = operator(scale=2, size=(36, 48))
    x = scene(36, 48)
    y = physics(x)
    assert error(build(name, physics, 3)(y, physics), x) < 0.9 * error(build("tikhonov", physics, 3)(y, physics), x)


@pytest.mark.parametrize("name", [*UNTRAINED, "usrnet_tiny"])
@pytest.mark.parametrize(("scale", "size"), [(3, (16, 17)), (4, (18, 21))])
def test_sizes_that_the_scale_does_not_divide(name, scale, size):
    physics = operator(scale=scale, size=size, noise=2.55)
    x = scene(*size)
    with torch.no_grad():
        estimate = build(name, physics, 3)(physics(x), physics)
    assert estimate.shape == x.shape
    if name in UNTRAINED:
        assert error(estimate, x) < error(x.mean().expand_as(x), x)


@pytest.mark.parametrize("name", [*UNTRAINED, "usrnet_tiny"])
def test_the_kernel_and_scale_are_those_of_the_operator_that_is_passed(name):
    """A network is built for a setting, and sees another kernel at every step."""
    other = operator(image(4, 4, seed=1), scale=2, size=(16, 16))
    y = other(scene(16, 16))
    network = build(name, operator(scale=2), 3)
    assert torch.equal(network(y, other), build(name, other, 3)(y, other))
    same = operator(scale=2, size=(16, 16))
    assert torch.equal(network(y, same), network(y, other)) == (name == "bicubic")


@pytest.mark.parametrize(("name", "published"), [("usrnet", 17_016_016), ("usrnet_tiny", 590_332)])
def test_parameters_are_the_authors_to_the_last(name, published):
    assert sum(p.numel() for p in build(name, operator(scale=2), 3).parameters()) == published


def test_data_step_before_denoiser_at_every_stage_with_the_constants_of_that_stage():
    physics = operator(scale=2, noise=2.55, size=(16, 16))
    network = build("usrnet_tiny", physics, 1)
    calls = []
    network.denoiser.forward = lambda z, beta: calls.append((z, beta)) or z
    y = physics(image(1, 1, 16, 16))
    with torch.no_grad():
        estimate = network(y, physics)
        alphas, betas = network.constants(2.55 / 255, 2)
    assert (alphas > 0).all()
    assert (betas > 0).all()
    x = y.repeat_interleave(2, 2).repeat_interleave(2, 3)
    for (z, beta), alpha, expected in zip(calls, alphas, betas, strict=True):
        torch.testing.assert_close(beta, expected)
        gradient = physics.A_adjoint(physics.A(z) - y) + alpha * (z - x)
        assert gradient.abs().max() < 1e-12
        x = z
    assert torch.equal(estimate, x)


def test_constants_depend_on_noise_and_scale():
    torch.manual_seed(0)
    network = Constants(6, 32)
    noisy, coarse, plain = network(0.1, 2)[0], network(0.0, 3)[0], network(0.0, 2)[0]
    assert not torch.equal(noisy, plain)
    assert not torch.equal(coarse, plain)


def test_the_denoiser_reads_its_noise_level_and_adds_what_each_resolution_had():
    torch.manual_seed(0)
    network = ResUNet(1, (4, 6, 8, 8)).double()
    z = image(1, 1, 16, 24)
    with torch.no_grad():
        assert not torch.equal(network(z, torch.tensor([0.1])), network(z, torch.tensor([0.2])))
        for up in network.up:  # what comes from below is silenced: head and tail alone are left
            up[0].weight.zero_()
        level = torch.full((1, 1, 16, 24), 0.1, dtype=torch.float64)
        head = network.head(torch.cat([z, level], dim=1))
        torch.testing.assert_close(network(z, torch.tensor([0.1], dtype=torch.float64)), network.tail(head))


@pytest.mark.parametrize("name", ["usrnet", "usrnet_tiny"])
def test_weights_under_the_authors_names_are_read(name, tmp_path):
    physics = operator(scale=2, dtype=torch.float32)
    ours = System(build(name, physics, 3), physics)
    theirs = {}
    for key, value in ours.network.state_dict().items():
        part, rest = key.split(".", 1)
        if part == "constants":
            theirs[f"h.{rest}"] = value
        elif rest.startswith(("down", "up")):
            way, level, rest = rest.split(".", 2)
            theirs[f"p.m_{way}{int(level) + 1}.{rest}"] = value
        else:
            theirs[f"p.m_{rest}"] = value
    assert {"h.mlp.4.bias", "p.m_head.weight", "p.m_down1.0.res.2.weight", "p.m_up3.0.weight"} <= set(theirs)
    torch.save(theirs, tmp_path / "usrnet.pth")
    other = System(plugins.build(name, physics, 3), physics)
    load_released(other, name, tmp_path / "usrnet.pth")
    for key, value in ours.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key
