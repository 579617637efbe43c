import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from lorun.errors import LorunError
from lorun.evaluation.metrics import PSNR_LIMIT, SSIM_WINDOW, psnr, residual, spectral_angle, ssim
from lorun.physics.block_cs import BlockCS, gaussian_matrix
from lorun.physics.cassi import CASSI, random_mask

REFERENCE = {
    "uniform7": {},  # every default of scikit-image
    "gaussian11": {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False},
}
KINDS = list(SSIM_WINDOW)
few = settings(max_examples=25, deadline=None)


def noisy(image: torch.Tensor, sigma: float, seed: int = 0) -> torch.Tensor:
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed), dtype=image.dtype)
    return (image + sigma * noise).clamp(0, 1)


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    return torch.from_numpy(data.camera()[100:292:2, 60:380:2].copy())[None].double() / 255  # (1, 96, 160)


@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_of_a_constant_offset_is_its_formula(channels):
    truth = torch.full((channels, 9, 12), 0.5, dtype=torch.float64)
    assert psnr(truth + 0.1, truth) == pytest.approx(20.0, abs=1e-12)
    assert psnr(truth - 1 / 255, truth) == pytest.approx(20 * math.log10(255), abs=1e-9)


def test_psnr_saturates_at_its_limit():
    truth = torch.full((1, 8, 8), 0.25, dtype=torch.float64)
    assert psnr(truth, truth) == PSNR_LIMIT
    assert psnr(truth + 0.99e-4, truth) == PSNR_LIMIT
    assert psnr(truth + 1.01e-4, truth) == pytest.approx(-20 * math.log10(1.01e-4), abs=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_ssim_of_constant_images_is_its_luminance_term(kind):
    dark, bright = (torch.full((1, 16, 13), v, dtype=torch.float64) for v in (0.25, 0.75))
    c1 = (0.01 * 255) ** 2
    expected = (2 * 63.75 * 191.25 + c1) / (63.75**2 + 191.25**2 + c1)
    assert ssim(dark, bright, kind) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_ssim_by_hand_where_one_window_fits(kind):
    """Written out from the definition, independently of scikit-image."""
    n = SSIM_WINDOW[kind]
    rng = np.random.default_rng(7)
    x, y = rng.uniform(0, 255, (2, n, n))
    if kind == "uniform7":
        weight, bessel = np.full((n, n), 1 / n**2), n**2 / (n**2 - 1)
    else:
        line = np.exp(-((np.arange(n) - n // 2) ** 2) / (2 * 1.5**2))
        weight, bessel = np.outer(line, line) / line.sum() ** 2, 1.0
    mx, my = (weight * x).sum(), (weight * y).sum()
    vx, vy, cov = (bessel * (weight * a * b).sum() for a, b in ((x - mx, x - mx), (y - my, y - my), (x - mx, y - my)))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    got = ssim(torch.from_numpy(x / 255)[None], torch.from_numpy(y / 255)[None], kind)
    assert got == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("sigma", [0.3, 0.05, 0.012, 0.002])
def test_agrees_with_scikit_image(photo, sigma):
    estimate = noisy(photo, sigma)
    x, y = estimate[0].numpy(), photo[0].numpy()
    assert psnr(estimate, photo) == pytest.approx(peak_signal_noise_ratio(y, x, data_range=1), abs=1e-8)
    for kind, options in REFERENCE.items():
        expected = structural_similarity(y * 255, x * 255, data_range=255, **options)
        assert ssim(estimate, photo, kind) == pytest.approx(expected, abs=1e-8)


def test_colour_ssim_is_the_mean_over_channels(photo):
    truth, estimate = photo.repeat(3, 1, 1), torch.cat([noisy(photo, s) for s in (0.01, 0.05, 0.1)])
    for kind in KINDS:
        each = [ssim(e[None], photo, kind) for e in estimate]
        assert ssim(estimate, truth, kind) == pytest.approx(np.mean(each), abs=1e-12)


def test_where_pyiqa_differs(photo):
    """Why the defaults of pyiqa are not used; should one of these fail, pyiqa has changed."""
    import pyiqa

    estimate = noisy(photo, 0.0126)
    pair = estimate[None], photo[None]
    shift = pyiqa.create_metric("psnr", device="cpu")(*pair).item() - psnr(estimate, photo)
    assert -4e-4 < shift < -2e-4

    gaussian = pyiqa.create_metric("ssimc", device="cpu", channels=1)
    rounded = (estimate * 255).round() / 255
    assert gaussian(*pair).item() == pytest.approx(ssim(rounded, photo, "gaussian11"), abs=5e-6)
    negative = 1 - photo
    assert gaussian(negative[None], photo[None]).item() >= 0 > ssim(negative, photo, "gaussian11")


@few
@given(seed=st.integers(0, 2**31), size=st.tuples(st.integers(11, 24), st.integers(11, 24)))
def test_both_metrics_are_symmetric_and_bounded(seed, size):
    x, y = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert psnr(x, y) == pytest.approx(psnr(y, x), abs=1e-10)
    for kind in KINDS:
        assert ssim(x, y, kind) == pytest.approx(ssim(y, x, kind), abs=1e-10)
        assert -1 <= ssim(x, y, kind) <= 1
        assert ssim(x, x, kind) == pytest.approx(1, abs=1e-10)


@few
@given(seed=st.integers(0, 2**31), sigma=st.floats(0.002, 0.1), factor=st.floats(1.2, 4))
def test_more_noise_scores_lower(photo, seed, sigma, factor):
    less, more = (noisy(photo, s, seed) for s in (sigma, sigma * factor))
    assert psnr(more, photo) < psnr(less, photo)
    for kind in KINDS:
        assert ssim(more, photo, kind) < ssim(less, photo, kind)


def cubes(seed: int, bands: int = 5, size: tuple[int, int] = (6, 7)) -> torch.Tensor:
    """Two cubes of positive values, (2, bands, H, W)."""
    return torch.rand(2, bands, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.01


def test_the_spectral_angle_of_known_spectra():
    estimate = torch.tensor([[1.0, 1.0, 0.0, 0.5], [0.0, 1.0, 0.0, 0.5]])[:, None]
    truth = torch.tensor([[0.0, 1.0, 0.2, 0.1], [1.0, 0.0, 0.0, 0.1]])[:, None]
    each = [90.0, 45.0, 90.0, 0.0]  # orthogonal, diagonal, an estimate of nothing, the same but for its length
    for pixel, expected in enumerate(each):
        here = estimate[..., pixel : pixel + 1], truth[..., pixel : pixel + 1]
        assert spectral_angle(*here) == pytest.approx(expected, abs=1e-6)
    assert spectral_angle(estimate, truth) == pytest.approx(np.mean(each), abs=1e-6)


def test_the_spectral_angle_is_the_arc_cosine():
    x, y = cubes(1)
    cosine = (x * y).sum(0) / (x.square().sum(0) * y.square().sum(0)).sqrt()
    assert spectral_angle(x, y) == pytest.approx(np.degrees(np.arccos(cosine.numpy())).mean(), abs=1e-9)


def test_a_small_spectral_angle_is_exact():
    truth = torch.ones(2, 3, 3, dtype=torch.float64)
    turn = math.radians(45) + 1e-10
    estimate = torch.tensor([math.cos(turn), math.sin(turn)], dtype=torch.float64)[:, None, None].expand(2, 3, 3)
    assert spectral_angle(estimate, truth) == pytest.approx(math.degrees(1e-10), rel=1e-4)
    assert spectral_angle(truth, truth) == 0


def test_pixels_without_a_true_spectrum_are_left_out():
    x, y = cubes(2)
    whole = spectral_angle(x[..., 1:], y[..., 1:])
    y[..., 0] = 0
    assert spectral_angle(x, y) == whole
    with pytest.raises(LorunError, match="truth is zero everywhere"):
        spectral_angle(x, torch.zeros_like(y))


@few
@given(seed=st.integers(0, 2**31), low=st.floats(0.01, 1), high=st.floats(1, 50))
def test_the_spectral_angle_does_not_see_brightness_nor_the_order_of_bands(seed, low, high):
    x, y = cubes(seed)
    expected = spectral_angle(x, y)
    assert 0 <= expected <= 90
    lengths = torch.linspace(low, high, 6 * 7, dtype=torch.float64).reshape(6, 7)
    assert spectral_angle(lengths * x, y) == pytest.approx(expected, abs=1e-9)
    assert spectral_angle(x, lengths * y) == pytest.approx(expected, abs=1e-9)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    assert spectral_angle(x[order], y[order]) == pytest.approx(expected, abs=1e-9)
    assert spectral_angle(y, x) == pytest.approx(expected, abs=1e-9)


def operators():
    """Operators bound to scenes of 9 x 10 pixels, and their channels."""
    return [
        (BlockCS(gaussian_matrix(4, 16, 0), initial="adjoint").at(9, 10), 1),
        (BlockCS(gaussian_matrix(4, 16, 0), initial="adjoint").at(9, 10), 3),
        (CASSI(random_mask(12, 12, 0), bands=5).at(9, 10), 5),
    ]


@pytest.mark.parametrize(("physics", "channels"), operators())
def test_the_residual_of_a_measurement(physics, channels):
    x = cubes(3, channels, (9, 10))[0].float()
    y = physics.A(x[None])
    before = {name: buffer.clone() for name, buffer in physics.named_buffers()}
    assert residual(x, y, physics) < 1e-6
    assert residual(torch.zeros_like(x), y, physics) == pytest.approx(1, abs=1e-12)
    assert residual(1.25 * x, y, physics) == pytest.approx(0.25, abs=1e-6)
    assert residual(0.5 * x, 4 * y, physics) == pytest.approx(1 - 1 / 8, abs=1e-6)
    for name, buffer in physics.named_buffers():  # neither moved to float64 nor changed
        assert buffer.dtype == torch.float32
        assert torch.equal(buffer, before[name])


@pytest.mark.parametrize(("value", "norm"), [(0.0, "0"), (math.nan, "nan"), (math.inf, "inf")])
def test_there_is_no_residual_relative_to_nothing(value, norm):
    physics, channels = operators()[2]
    x = cubes(3, channels, (9, 10))[0]
    with pytest.raises(LorunError, match=f"the measurement has the norm {norm}"):
        residual(x, torch.full((1, 1, 9, 18), value), physics)
