"""Images as people see them: white is white, colours are those that colour-science computes, photographs come back."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from lorun.data.cubes import WAVELENGTHS
from lorun.data.images import read_image
from lorun.data.photos import Source, locate
from lorun.data.spectral_photos import SPECTRAL_SOURCES, simulate, spectral_primaries
from lorun.errors import LorunError
from lorun.evaluation import rendering
from lorun.evaluation.kept import write_image
from lorun.evaluation.rendering import render, to_pixels

spectra = arrays(np.float32, st.tuples(st.just(28), st.just(2), st.just(3)), elements=st.floats(0, 1, width=32))


def test_the_observer_is_that_of_colour_science() -> None:
    from colour import MSDS_CMFS

    table = MSDS_CMFS["CIE 1931 2 Degree Standard Observer"]
    expected = [np.interp(WAVELENGTHS, table.wavelengths, column) for column in table.values.T]
    np.testing.assert_allclose(np.array(rendering._OBSERVER) / 1e5, expected, rtol=0, atol=5.1e-6)


@settings(deadline=None, max_examples=20)
@given(spectra)
def test_colours_are_those_that_colour_science_computes(cube: np.ndarray) -> None:
    """The integral by hand, adaptation and encoding by colour-science."""
    from colour import XYZ_to_sRGB, XYZ_to_xy

    observer = np.array(rendering._OBSERVER).T / 1e5

    def integral(values: np.ndarray) -> np.ndarray:  # (28, H, W) -> (H, W, 3)
        return np.trapezoid(values[..., None] * observer[:, None, None], WAVELENGTHS, axis=0)

    white = integral(np.ones((28, 1, 1)))[0, 0]
    xyz = integral(cube.astype(float)) / white[1]
    rgb = XYZ_to_sRGB(xyz, XYZ_to_xy(white), "Bradford", apply_cctf_encoding=True).clip(0, 1) * 255
    assert np.abs(render(cube) - rgb.transpose(2, 0, 1)).max() < 0.75  # its matrix has four digits


@pytest.mark.parametrize(("level", "value"), [(0, 0), (0.0031308, 10), (0.2140, 127), (0.5, 188), (1, 255), (2, 255)])
def test_a_gray_reflectance_is_gray(level: float, value: int) -> None:
    """127: 12.92 and 1.055 L^(1/2.4) - 0.055 by hand."""
    pixels = render(np.full((28, 3, 2), level, np.float32))
    assert pixels.shape == (3, 3, 2)
    assert pixels.dtype == np.uint8
    assert np.unique(pixels).tolist() == [value]


@pytest.mark.parametrize(("band", "brightest"), [(0, 2), (4, 2), (14, 1), (16, 1), (24, 0), (27, 0)])
def test_a_single_band_has_its_colour(band: int, brightest: int) -> None:
    cube = np.zeros((28, 1, 1), np.float32)
    cube[band] = 1
    assert int(render(cube)[:, 0, 0].argmax()) == brightest


@pytest.mark.parametrize("source", SPECTRAL_SOURCES, ids=lambda source: source.name)
def test_a_simulated_cube_looks_like_its_photograph(source: Source) -> None:
    rgb = read_image(locate(source), 3)
    top, left = (side // 2 - 100 for side in rgb.shape[1:])
    rgb = rgb[:, top : top + 200, left : left + 200]
    seen = render((simulate(rgb, spectral_primaries()) / 65535).astype(np.float32))
    error = np.mean((seen.astype(float) - rgb) ** 2)
    assert 10 * np.log10(255**2 / error) > 35  # not more: other light, and a narrower spectrum


@settings(deadline=None, max_examples=30)
@given(arrays(np.uint8, st.tuples(st.sampled_from([1, 3]), st.integers(1, 5), st.integers(1, 5))))
def test_photographs_are_what_they_are(pixels: np.ndarray) -> None:
    assert to_pixels(pixels) is pixels
    np.testing.assert_array_equal(to_pixels(pixels.astype(np.float32) / 255), pixels)


def test_floats_are_clipped_and_rounded() -> None:
    assert to_pixels(np.array([[[-1, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.1]]], np.float32)).tolist() == [
        [[0, 0, 1, 255, 255]]
    ]


@pytest.mark.parametrize("channels", [2, 4, 27, 31])
def test_other_numbers_of_channels_are_refused(channels: int) -> None:
    with pytest.raises(
        LorunError, match=rf"images have 1 \(gray\), 3 \(RGB\) or 28 \(spectral\) channels, not {channels}"
    ):
        to_pixels(np.zeros((channels, 2, 2), np.float32))


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (28, "RGB")])
def test_a_reconstruction_is_kept_as_it_looks(tmp_path: Path, channels: int, mode: str) -> None:
    image = torch.rand(channels, 4, 1, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    write_image(tmp_path / "a.png", image)
    with Image.open(tmp_path / "a.png") as kept:
        assert (kept.size, kept.mode) == ((1, 4), mode)
        pixels = np.asarray(kept).reshape(4, 1, -1).transpose(2, 0, 1)
    np.testing.assert_array_equal(pixels, to_pixels(image.numpy()))


def test_rendering_takes_no_second_to_import() -> None:
    code = "import sys; from lorun.evaluation import rendering; sys.exit(bool({'colour', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
