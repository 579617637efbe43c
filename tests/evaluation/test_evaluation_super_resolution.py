"""Protocols of super-resolution, against numpy and scikit-image, and known values of bicubic interpolation."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from lorun.data.images import load_dataset
from lorun.errors import LorunError
from lorun.evaluation.protocols import get_protocol, score, studio_luma

DATA = Path(__file__).parents[2] / "data"
GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}


def photograph(name):
    """(C, H, W), 8 bit over 255."""
    pixels = torch.from_numpy(getattr(data, name)()[:200, :232].copy()).double() / 255
    return pixels.permute(2, 0, 1) if pixels.ndim == 3 else pixels[None]


def worse(truth, seed=0):
    """Blurred and noisy, a little out of range."""
    smooth = torch.nn.functional.avg_pool2d(truth[None], 3, 1, 1, count_include_pad=False)[0]
    return smooth + 0.03 * torch.randn(truth.shape, dtype=truth.dtype, generator=torch.Generator().manual_seed(seed))


def bytes_inside(image, border):
    """What a script would read from a saved file: (H, W, C) uint8, the border cut off."""
    pixels = np.rint(np.clip(image.permute(1, 2, 0).numpy(), 0, 1) * 255).astype(np.uint8)
    return pixels[border : pixels.shape[0] - border, border : pixels.shape[1] - border]


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_usrnet_s_is_of_bytes_of_all_channels_without_a_border_of_the_scale_squared(scale):
    truth = photograph("astronaut")
    estimate = worse(truth)
    x, y = bytes_inside(estimate, scale**2), bytes_inside(truth, scale**2)
    got = score(get_protocol("usrnet_rgb"), estimate, truth, scale=scale)
    assert got["psnr"] == pytest.approx(peak_signal_noise_ratio(y, x), abs=1e-9)
    each = [structural_similarity(x[..., c], y[..., c], **GAUSSIAN) for c in range(3)]
    assert got["ssim"] == pytest.approx(np.mean(each), abs=1e-9)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_y_is_matlab_s_of_bytes_without_a_border_of_the_scale(scale):
    truth = photograph("astronaut")
    estimate = worse(truth)
    x, y = (rgb2ycbcr(bytes_inside(image, scale))[..., 0] for image in (estimate, truth))
    got = score(get_protocol("sr_y"), estimate, truth, scale=scale)
    assert got["psnr"] == pytest.approx(10 * np.log10(255**2 / np.mean((x - y) ** 2)), abs=1e-9)
    assert got["ssim"] == pytest.approx(structural_similarity(x, y, **GAUSSIAN), abs=1e-9)


@pytest.mark.parametrize("scale", [1, 3])
def test_gray_is_the_same_without_a_conversion(scale):
    truth = photograph("camera")
    estimate = worse(truth)
    x, y = (bytes_inside(image, scale)[..., 0] for image in (estimate, truth))
    got = score(get_protocol("sr_gray"), estimate, truth, scale=scale)
    assert got["psnr"] == pytest.approx(peak_signal_noise_ratio(y, x), abs=1e-9)
    assert got["ssim"] == pytest.approx(structural_similarity(x.astype(float), y.astype(float), **GAUSSIAN), abs=1e-9)


def test_luma_has_the_range_of_a_studio():
    colours = torch.tensor([[0.0, 1, 1, 0, 0], [0, 1, 0, 1, 0], [0, 1, 0, 0, 1]], dtype=torch.float64)[..., None]
    expected = [16, 235, 16 + 65.481, 16 + 128.553, 16 + 24.966]
    assert (studio_luma(colours)[0, :, 0] * 255).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
def test_rgb_is_one_to_two_dB_below_y(name):
    truth = photograph(name)
    smooth = torch.nn.functional.avg_pool2d(truth[None], 3, 1, 1, count_include_pad=False)[0]
    rgb, y = (score(get_protocol(protocol), smooth, truth, scale=2)["psnr"] for protocol in ("usrnet_rgb", "sr_y"))
    assert 1 < y - rgb < 2


@pytest.mark.parametrize("name", ["usrnet_rgb", "sr_y", "sr_gray"])
def test_the_border_of_such_a_protocol_needs_a_scale(name):
    protocol = get_protocol(name)
    image = torch.full((protocol.channels, 60, 60), 128 / 255)
    with pytest.raises(LorunError, match=rf"^{name} crops a border of scale.* pixels: give the scale$"):
        score(protocol, image, image)
    spoilt = image.clone()
    spoilt[:, : protocol.border_at(4)] = 1  # cropped away
    assert score(protocol, spoilt, image, scale=4)["psnr"] == 80
    assert score(protocol, spoilt, image, scale=2)["psnr"] < 80
    border = protocol.border_at(4)
    small = image[..., : 2 * border + 10]
    with pytest.raises(
        LorunError, match=f"with a border of {border} px cropped are smaller than the 11x11 px that SSIM"
    ):
        score(protocol, small, small, scale=4)


# The literature's row "bicubic" on Set5 (SRCNN, VDSR, EDSR and later): imresize of MATLAB both ways, on Y.
KNOWN = {2: (33.66, 0.9299), 3: (30.39, 0.8682), 4: (28.42, 0.8104)}


@pytest.mark.parametrize("scale", KNOWN)
def test_bicubic_interpolation_of_set5_has_its_known_score(scale):
    if not (DATA / "set5").is_dir():
        pytest.skip("data/set5 is not there: `lorun data fetch set5`")
    scores = []
    for pixels in load_dataset(DATA, "set5", "test", 3).values():
        height, width = (side - side % scale for side in pixels.shape[1:])
        truth = torch.from_numpy(pixels[:, :height, :width].copy()).double() / 255
        small = resized(truth, (height // scale, width // scale))
        estimate = resized((small.clamp(0, 1) * 255).round() / 255, (height, width))
        scores.append(score(get_protocol("sr_y"), estimate, truth, scale=scale))
    psnr, ssim = (math.fsum(one[metric] for one in scores) / 5 for metric in ("psnr", "ssim"))
    assert (psnr, ssim) == (pytest.approx(KNOWN[scale][0], abs=0.03), pytest.approx(KNOWN[scale][1], abs=0.001))


def resized(image, size):
    """As MATLAB's imresize but for the first and last pixels, which it mirrors."""
    return torch.nn.functional.interpolate(image[None], size, mode="bicubic", antialias=True, align_corners=False)[0]
