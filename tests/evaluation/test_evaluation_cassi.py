"""The four conventions of spectral imaging, against numpy and against each other; and what needs no truth."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate
from skimage import data

from lorun.errors import LorunError
from lorun.evaluation.metrics import PSNR_LIMIT
from lorun.evaluation.protocols import Measurement, get_protocol, score
from lorun.physics.cassi import CASSI, random_mask

NAMES = ["cassi_mst_uint8", "cassi_float_x255", "cassi_dpu", "cassi_torch_psnr"]
WITH_SSIM = NAMES[:3]
METRICS = {name: ["psnr", "ssim", "sam"] for name in WITH_SSIM} | {"cassi_torch_psnr": ["psnr"]}
few = settings(max_examples=10, deadline=None)


def noise(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(seed: int = 0, size: tuple[int, int] = (13, 15)) -> tuple[torch.Tensor, torch.Tensor]:
    """An estimate that leaves [0, 1] and a truth that does not, with bands of different quality."""
    truth = torch.rand(28, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    quality = torch.linspace(0.005, 0.3, 28, dtype=torch.float64)[:, None, None]
    return truth + quality * noise(truth.shape, seed + 1), truth


@pytest.fixture(scope="module")
def scene() -> torch.Tensor:
    """Smooth, away from black and white so that clipping stays out of the arithmetic: (28, 128, 128)."""
    photo = torch.from_numpy(data.camera()[::4, ::4].copy()).double() / 255
    return 0.2 + 0.6 * torch.stack([photo ** (0.5 + band / 28) for band in range(28)])


def im2uint8(image):
    """As MATLAB has it, by its definition."""
    return np.floor(np.clip(image, 0, 1) * 255 + 0.5)


def by_hand_psnr(x, y):
    """Of grey levels, (28, H, W): band by band, then the mean."""
    return np.mean([10 * np.log10(255**2 / np.mean((a - b) ** 2)) for a, b in zip(x, y, strict=True)])


def by_hand_ssim(x, y):
    """Wang et al. 2004 with their window of 11 x 11, where it lies inside; band by band, then the mean."""
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def mean(image):
        return correlate(image, window)[5:-5, 5:-5]

    values = []
    for a, b in zip(x, y, strict=True):
        va, vb, cov = mean(a * a) - mean(a) ** 2, mean(b * b) - mean(b) ** 2, mean(a * b) - mean(a) * mean(b)
        luminance = (2 * mean(a) * mean(b) + c1) / (mean(a) ** 2 + mean(b) ** 2 + c1)
        values.append((luminance * (2 * cov + c2) / (va + vb + c2)).mean())
    return np.mean(values)


def by_hand_sam(x, y):
    x = np.clip(x, 0, 1)
    cosine = (x * y).sum(0) / np.sqrt((x**2).sum(0) * (y**2).sum(0))
    return np.degrees(np.arccos(cosine)).mean()


def by_hand(name, estimate, truth):
    x, y = estimate.numpy(), truth.numpy()
    float255, uint8 = (np.clip(x, 0, 1) * 255, y * 255), (im2uint8(x), im2uint8(y))
    if name == "cassi_torch_psnr":
        return {"psnr": by_hand_psnr(np.round(x * 256), np.round(y * 256))}
    for_psnr, for_ssim = {
        "cassi_mst_uint8": (uint8, uint8),
        "cassi_float_x255": (float255, float255),
        "cassi_dpu": (float255, uint8),
    }[name]
    return {"psnr": by_hand_psnr(*for_psnr), "ssim": by_hand_ssim(*for_ssim), "sam": by_hand_sam(x, y)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_numpy(name, seed):
    estimate, truth = pair(seed)
    got = score(get_protocol(name), estimate, truth)
    assert list(got) == list(get_protocol(name).metrics) == METRICS[name]
    assert got == pytest.approx(by_hand(name, estimate, truth), abs=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_bands_are_averaged_in_decibels_and_not_pooled(name):
    """One band is off by a tenth, the others by a hundredth: pooling sees almost nothing but the one."""
    truth = 0.3 + 0.4 * pair(6)[1]
    off = torch.full((28, 1, 1), 0.01, dtype=torch.float64)
    off[3] = 0.1
    estimate = truth + off * noise(truth.shape).sign()
    got = score(get_protocol(name), estimate, truth)["psnr"]
    pooled = -10 * math.log10((estimate - truth).square().mean())
    assert got == pytest.approx((27 * 40 + 20) / 28, abs=0.3)
    assert got > pooled + 5


def test_what_the_conventions_make_of_the_same_error(scene):
    """Rounding both images adds twice 1/12 square grey level to the mean squared error of every band; a peak of 255 for
    levels of 256 takes 20 log10(256/255) off."""
    sigma = 10 ** (-40 / 20)
    estimate = scene + sigma * noise(scene.shape)
    got = {name: score(get_protocol(name), estimate, scene) for name in NAMES}
    plain = got["cassi_float_x255"]["psnr"]
    assert plain == pytest.approx(40, abs=0.05)
    assert got["cassi_dpu"]["psnr"] == plain
    rounding = 10 * math.log10(1 + (2 / 12) / (sigma * 255) ** 2)
    assert rounding == pytest.approx(0.11, abs=0.01)
    assert plain - got["cassi_mst_uint8"]["psnr"] == pytest.approx(rounding, abs=0.005)
    finer = 10 * math.log10(1 + (2 / 12) / (sigma * 256) ** 2)
    peak = 20 * math.log10(256 / 255)
    assert plain - got["cassi_torch_psnr"]["psnr"] == pytest.approx(finer + peak, abs=0.005)
    assert max(one["psnr"] for one in got.values()) - min(one["psnr"] for one in got.values()) < 0.15
    assert got["cassi_dpu"]["ssim"] == got["cassi_mst_uint8"]["ssim"] != got["cassi_float_x255"]["ssim"]
    assert got["cassi_dpu"]["ssim"] == pytest.approx(got["cassi_float_x255"]["ssim"], abs=2e-3)
    assert got["cassi_dpu"]["sam"] == got["cassi_mst_uint8"]["sam"] == got["cassi_float_x255"]["sam"] > 0


def test_only_the_figure_of_the_training_is_not_clipped():
    truth = torch.ones(28, 12, 12, dtype=torch.float64)
    for name in WITH_SSIM:
        assert score(get_protocol(name), truth + 0.25, truth) == pytest.approx(
            {"psnr": PSNR_LIMIT, "ssim": 1, "sam": 0}
        )
    expected = 10 * math.log10(255**2 / 64**2)
    assert score(get_protocol("cassi_torch_psnr"), truth + 0.25, truth)["psnr"] == pytest.approx(expected, abs=1e-9)


def test_halves_go_up_in_both_images():
    """An estimate of k + 1/2 levels is level k + 1, as im2uint8 has it, not the nearest even one."""
    levels = torch.arange(28, dtype=torch.float64)[:, None, None].expand(28, 12, 12)
    exact = (levels + 1) / 255
    half = torch.zeros_like(exact)
    for band in range(28):
        value = (band + 0.5) / 255
        half[band] = value if value * 255 >= band + 0.5 else math.nextafter(value, 1)
    protocol = get_protocol("cassi_mst_uint8")
    assert score(protocol, half, exact)["psnr"] == PSNR_LIMIT
    assert score(protocol, exact, half)["psnr"] == PSNR_LIMIT


def test_a_perfect_band_counts_the_limit():
    truth = torch.full((28, 12, 12), 0.5, dtype=torch.float64)
    estimate = truth.clone()
    estimate[0] += 0.1
    assert score(get_protocol("cassi_float_x255"), estimate, truth)["psnr"] == pytest.approx((20 + 27 * 80) / 28)


def test_a_band_of_constant_truth_is_a_band_like_any_other():
    estimate, truth = pair(4)
    truth[5], truth[6] = 0.0, 0.7
    got = score(get_protocol("cassi_mst_uint8"), estimate, truth)
    assert got == pytest.approx(by_hand("cassi_mst_uint8", estimate, truth), abs=1e-8)


@few
@given(seed=st.integers(0, 2**31))
@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_bands_does_not_matter(name, seed):
    estimate, truth = pair(seed)
    order = torch.randperm(28, generator=torch.Generator().manual_seed(seed))
    expected = score(get_protocol(name), estimate, truth)
    assert score(get_protocol(name), estimate[order], truth[order]) == pytest.approx(expected, abs=1e-9)


@few
@given(seed=st.integers(0, 2**31), dtypes=st.tuples(*[st.sampled_from([torch.float32, torch.float64])] * 2))
@pytest.mark.parametrize("name", NAMES)
def test_the_dtype_that_carries_the_values_is_irrelevant(name, seed, dtypes):
    estimate, truth = (torch.round(image * 64) / 64 for image in pair(seed))
    expected = score(get_protocol(name), estimate, truth)
    assert score(get_protocol(name), estimate.to(dtypes[0]), truth.to(dtypes[1])) == expected


def edited(value: float) -> torch.Tensor:
    cube = torch.full((28, 12, 12), 0.5)
    cube[27, 3, 4] = value
    return cube


GOOD = torch.full((28, 12, 12), 0.5)
BAD_PAIRS = {
    "27 bands": (GOOD[:27], GOOD[:27], r"images have shape \(27, 12, 12\), but NAME scores \(28, H, W\)"),
    "one band": (GOOD[:1], GOOD[:1], r"images have shape \(1, 12, 12\), but NAME scores \(28, H, W\)"),
    "another size": (GOOD[..., 1:], GOOD, r"estimate has shape \(28, 12, 11\), but truth has shape \(28, 12, 12\)"),
    "NaN": (edited(math.nan), GOOD, "estimate has 1 NaN or infinite values of 4032"),
    "truth NaN": (GOOD, edited(math.nan), "truth has 1 NaN or infinite values of 4032"),
    "negative truth": (GOOD, edited(-0.1), r"truth has values from -0.1 to 0.5, expected \[0, 1\]"),
    "16-bit truth": (GOOD, 65535 * GOOD, r"truth has values from 32767.5 to 32767.5, expected \[0, 1\]"),
    "no truth": (GOOD, None, "NAME needs a truth, and there is none"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("estimate", "truth", "message"), BAD_PAIRS.values(), ids=list(BAD_PAIRS))
def test_errors_are_one_line_naming_the_values(name, estimate, truth, message):
    with pytest.raises(LorunError, match=message.replace("NAME", name)) as caught:
        score(get_protocol(name), estimate, truth)
    assert "\n" not in str(caught.value)


def test_a_scene_smaller_than_the_window_has_no_ssim_but_the_figure_of_the_training():
    small = torch.full((28, 10, 12), 0.5)
    for name in WITH_SSIM:
        with pytest.raises(LorunError, match=f"10x12 px .* smaller than the 11x11 px that SSIM of {name} needs"):
            score(get_protocol(name), small, small)
    assert score(get_protocol("cassi_torch_psnr"), small, small) == {"psnr": PSNR_LIMIT}


RESIDUAL = get_protocol("measurement_residual")


def test_the_residual_needs_no_truth_and_is_that_of_the_clipped_estimate():
    assert (RESIDUAL.metrics, RESIDUAL.needs_truth) == (("residual",), False)
    physics = CASSI(random_mask(12, 12, 0)).at(12, 12)
    estimate, truth = (cube.float() for cube in pair(5, (12, 12)))
    measurement = Measurement(physics.A(truth[None]), physics)
    explained = np.asarray(physics.A(estimate.clamp(0, 1)[None]).double())
    y = np.asarray(measurement.y.double())
    expected = np.linalg.norm(explained - y) / np.linalg.norm(y)
    assert expected > 0.01
    for of in (None, truth):
        assert score(RESIDUAL, estimate, of, measurement) == {"residual": pytest.approx(expected, abs=1e-6)}
    assert score(RESIDUAL, truth, None, measurement)["residual"] < 1e-6


def test_without_a_measurement_there_is_no_residual():
    with pytest.raises(LorunError, match="measurement_residual needs the measurement, and there is none"):
        score(RESIDUAL, GOOD, GOOD)
    with pytest.raises(LorunError, match="estimate has 1 NaN"):
        score(RESIDUAL, edited(math.nan), None, Measurement(torch.ones(1, 1, 12, 66), CASSI(random_mask(12, 12, 0))))
