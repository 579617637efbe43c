import math
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data
from skimage.metrics import structural_similarity

from lorun.errors import LorunError, UnknownName
from lorun.evaluation.metrics import METRICS, PSNR_LIMIT, IqaMetric, iqa, psnr, ssim
from lorun.evaluation.protocols import PROTOCOLS, Measure, Protocol, get_protocol, score

CS = {name: protocol for name, protocol in PROTOCOLS.items() if name.startswith("cs_")}
EVERY = pytest.mark.parametrize("protocol", CS.values(), ids=list(CS))


def noise(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    """8 bit, away from black and white so that clipping stays out of the arithmetic. (1, 256, 256)"""
    levels = 30 + torch.from_numpy(data.camera()[::2, ::2].copy())[None].double() * 0.75
    return levels.round() / 255


def test_registry():
    assert list(CS) == ["cs_float_y", "cs_round_y", "cs_truncate_y"]
    for name, protocol in PROTOCOLS.items():
        assert get_protocol(name) is protocol
        assert protocol.name == name
        assert protocol.border == {"usrnet_rgb": "scale**2", "sr_y": "scale", "sr_gray": "scale"}.get(name, 0)
        assert protocol.source
        assert set(protocol.metrics) <= set(METRICS)
    for protocol, values, window in zip(
        CS.values(), ["clip", "round", "truncate"], ["uniform7", "gaussian11", "gaussian11"], strict=True
    ):
        assert (protocol.channels, protocol.metrics) == (1, ("psnr", "ssim"))
        assert [(measure.estimate, measure.truth) for measure in protocol.measures] == [(values, "as_is")] * 2
        assert protocol.measures[1].window == window
    with pytest.raises(FrozenInstanceError):
        get_protocol("cs_float_y").border = 4  # type: ignore[misc]


def test_unknown_protocol_names_the_choices():
    with pytest.raises(UnknownName, match=r"unknown protocol 'cs_flaot_y'. Did you mean 'cs_float_y'\?.*cs_round_y"):
        get_protocol("cs_flaot_y")


def test_known_answers_by_hand():
    """A constant offset of 0.6 grey levels: kept, rounded up to 1, truncated away."""
    truth = torch.full((1, 16, 16), 100 / 255, dtype=torch.float64)
    estimate = truth + 0.6 / 255
    got = {name: score(protocol, estimate, truth)["psnr"] for name, protocol in CS.items()}
    assert got["cs_float_y"] == pytest.approx(20 * math.log10(255 / 0.6), abs=1e-9)
    assert got["cs_round_y"] == pytest.approx(20 * math.log10(255), abs=1e-9)
    assert got["cs_truncate_y"] == PSNR_LIMIT


@EVERY
def test_the_estimate_is_clipped_and_the_truth_left_alone(protocol):
    truth = torch.cat([torch.zeros(1, 12, 24), torch.ones(1, 12, 24)], dim=1)
    assert score(protocol, truth * 3 - 1, truth) == {"psnr": PSNR_LIMIT, "ssim": pytest.approx(1, abs=1e-12)}


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_grey_level_survives(protocol, dtype):
    """No level falls by one when k/255 is not exact, not even by truncation."""
    levels = (torch.arange(256).reshape(1, 16, 16) / 255).to(dtype)
    exact = torch.arange(256, dtype=torch.float64).reshape(1, 16, 16) / 255
    assert score(protocol, levels, exact)["psnr"] == PSNR_LIMIT


def test_agrees_with_numpy_and_scikit_image(photo):
    estimate = photo + 0.05 * noise(photo.shape)
    x, y = estimate[0].clamp(0, 1).numpy() * 255, photo[0].numpy() * 255
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = {
        "cs_float_y": (x, {}),
        "cs_round_y": (x.round(), gaussian),
        "cs_truncate_y": (x.astype(int).astype(float), gaussian),
    }
    for name, (image, options) in expected.items():
        got = score(get_protocol(name), estimate, photo)
        assert list(got) == ["psnr", "ssim"]
        assert got["psnr"] == pytest.approx(10 * math.log10(255**2 / ((image - y) ** 2).mean()), abs=1e-8)
        assert got["ssim"] == pytest.approx(structural_similarity(image, y, data_range=255, **options), abs=1e-8)


@pytest.mark.parametrize(("decibel", "rounding", "truncating"), [(38, 0.035, 0.14), (42, 0.09, 0.34)])
def test_what_rounding_and_truncating_cost(photo, decibel, rounding, truncating):
    """1/12 and 1/3 square grey levels added to the mean squared error."""
    estimate = photo + 10 ** (-decibel / 20) * noise(photo.shape)
    plain, rounded, truncated = (score(p, estimate, photo)["psnr"] for p in CS.values())
    mse = 255**2 / 10 ** (plain / 10)
    assert plain == pytest.approx(decibel, abs=0.05)
    assert plain - rounded == pytest.approx(10 * math.log10(1 + 1 / 12 / mse), abs=0.005)
    assert plain - truncated == pytest.approx(10 * math.log10(1 + 1 / 3 / mse), abs=0.01)
    assert plain - rounded == pytest.approx(rounding, abs=0.005)
    assert plain - truncated == pytest.approx(truncating, abs=0.01)


@EVERY
@settings(max_examples=15, deadline=None)
@given(
    dtypes=st.tuples(*[st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64])] * 2),
    seed=st.integers(0, 2**31),
)
def test_the_dtype_that_carries_the_values_is_irrelevant(protocol, dtypes, seed):
    # multiples of 1/64 are exact in every dtype
    truth = (noise((1, 14, 17), seed).abs() / 3).clamp(0, 1).mul(64).round() / 64
    estimate = truth + noise(truth.shape, seed + 1).mul(4).round() / 64
    assert score(protocol, estimate.to(dtypes[0]), truth.to(dtypes[1])) == score(protocol, estimate, truth)


def test_inputs_are_not_changed_and_gradients_do_not_matter(photo):
    estimate = (photo + 0.1 * noise(photo.shape)).requires_grad_()
    before = estimate.detach().clone(), photo.clone()
    score(get_protocol("cs_truncate_y"), estimate, photo)
    assert torch.equal(estimate, before[0])
    assert torch.equal(photo, before[1])


def test_a_colour_protocol_with_a_border_needs_no_new_code(photo):
    measures = Measure("psnr", "round"), Measure("ssim", "round")
    protocol = Protocol("colour", "RGB", measures, source="a test", channels=3, border=9)
    truth = photo.repeat(3, 1, 1)
    estimate = truth + 0.02 * noise(truth.shape)
    rounded = (estimate.clamp(0, 1) * 255).round() / 255
    inside = rounded[:, 9:-9, 9:-9], truth[:, 9:-9, 9:-9]
    estimate[:, :9] = 5  # cropped away
    assert score(protocol, estimate, truth) == {"psnr": psnr(*inside), "ssim": ssim(*inside, "gaussian11")}


def with_value(value: float) -> torch.Tensor:
    image = torch.full((1, 20, 20), 0.5)
    image[0, 3, 4] = value
    return image


GOOD = torch.full((1, 20, 20), 0.5)
BAD_PAIRS = {
    "shapes differ": (
        GOOD[:, :-1],
        GOOD,
        r"estimate has shape \(1, 19, 20\), but truth has shape \(1, 20, 20\)",
    ),
    "no channel": (GOOD[0], GOOD[0], r"shape \(20, 20\), but cs_round_y scores \(1, H, W\)"),
    "a batch": (GOOD[None], GOOD[None], r"shape \(1, 1, 20, 20\), but cs_round_y scores \(1, H, W\)"),
    "colour": (
        GOOD.repeat(3, 1, 1),
        GOOD.repeat(3, 1, 1),
        r"shape \(3, 20, 20\), but cs_round_y scores \(1, H",
    ),
    "too small": (GOOD[..., :10], GOOD[..., :10], "20x10 px with a border of 0 px .* 11x11 px that SSIM"),
    "empty": (GOOD[..., :0], GOOD[..., :0], "20x0 px"),
    "NaN": (with_value(math.nan), GOOD, "estimate has 1 NaN or infinite values of 400"),
    "inf": (with_value(-math.inf), GOOD, "estimate has 1 NaN or infinite values of 400"),
    "truth NaN": (GOOD, with_value(math.nan), "truth has 1 NaN or infinite values of 400"),
    "truth in grey levels": (GOOD, GOOD * 255, r"truth has values from 127.5 to 127.5, expected \[0, 1\]"),
    "negative truth": (GOOD, with_value(-0.1), r"truth has values from -0.1 to 0.5"),
    "integers": (GOOD.to(torch.uint8), GOOD, "estimate has dtype torch.uint8"),
    "complex": (GOOD, GOOD.to(torch.complex64), "truth has dtype torch.complex64"),
}


@pytest.mark.parametrize(("estimate", "truth", "message"), BAD_PAIRS.values(), ids=list(BAD_PAIRS))
def test_errors_are_one_line_naming_the_values(estimate, truth, message):
    with pytest.raises(LorunError, match=message) as caught:
        score(get_protocol("cs_round_y"), estimate, truth)
    assert "\n" not in str(caught.value)


def test_the_smallest_images():
    sizes = {"cs_float_y": 7, "cs_round_y": 11, "cs_truncate_y": 11}
    for name, size in sizes.items():
        image = torch.full((1, size, size), 128 / 255)
        assert score(get_protocol(name), image, image)["ssim"] == pytest.approx(1, abs=1e-12)
        with pytest.raises(LorunError, match=f"{size}x{size} px that SSIM of {name} needs"):
            score(get_protocol(name), image[:, 1:], image[:, 1:])
        with pytest.raises(LorunError, match="border of 1 px"):
            score(replace(get_protocol(name), border=1), image, image)


@pytest.mark.parametrize(("name", "channels"), [("iqa_gray", 1), ("iqa_rgb", 3)])
def test_iqa_protocols_score_the_saved_image(photo, name, channels):
    protocol = get_protocol(name)
    truth = photo[:, :161, :165].repeat(channels, 1, 1)
    estimate = truth + 0.05 * noise(truth.shape)
    got = score(protocol, estimate, truth)
    assert list(got) == ["psnr", "ssim", "ms_ssim", "gmsd", "fsim", "vif", "nlpd"]
    rounded = (estimate.clamp(0, 1) * 255).round() / 255
    expected = {metric: iqa(rounded, truth, metric) for metric in get_args(IqaMetric)}
    assert got == {"psnr": psnr(rounded, truth), "ssim": ssim(rounded, truth, "gaussian11"), **expected}
    with pytest.raises(LorunError, match=f"160x165 px .* smaller than the 161x161 px that MS-SSIM of {name} needs$"):
        score(protocol, estimate[:, 1:], truth[:, 1:])


def test_scoring_is_silent_offline_lazy_and_leaves_the_random_numbers_alone():
    program = """
import logging, random, socket, sys
import numpy, torch

def refuse(*arguments, **options):
    raise AssertionError("network")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
logging.basicConfig(level=logging.DEBUG)  # the loudest a caller can be
torch.set_num_threads(1)

from lorun.evaluation.protocols import PROTOCOLS, score
assert "pyiqa" not in sys.modules

state = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].copy()
for protocol in PROTOCOLS.values():
    if protocol.needs_truth:
        side = max(16, *(measure.side for measure in protocol.measures))
        scene = torch.full((protocol.channels, side, side), 0.5)
        score(protocol, scene, scene, scale=1)
assert "pyiqa" in sys.modules and "transformers" not in sys.modules
assert torch.equal(state[0], torch.get_rng_state()) and state[1] == random.getstate()
assert (state[2] == numpy.random.get_state()[1]).all()
assert torch.get_default_dtype() is torch.float32
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
