import io
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from lorun.data.png import encode_png

shapes = st.tuples(st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))


def decode(data: bytes) -> np.ndarray:
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


@settings(deadline=None)
@given(arrays(np.uint8, shapes))
def test_pillow_reads_the_same_pixels_back(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(decode(encode_png(pixels)), pixels)


@pytest.mark.parametrize("width", [65533, 65534, 65535, 131069])
def test_lines_around_the_size_of_a_stored_block(width: int) -> None:
    pixels = np.arange(width, dtype=np.uint8)[None, None]
    np.testing.assert_array_equal(decode(encode_png(pixels)), pixels)


def test_pixels_that_are_not_contiguous_in_memory() -> None:
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3).transpose(2, 1, 0)
    np.testing.assert_array_equal(decode(encode_png(pixels)), pixels)


def test_the_bytes_of_a_known_image() -> None:
    lines = b"\0\1\2\0\3\4"  # two lines of two pixels, each after its filter
    data = encode_png(np.array([[[1, 2], [3, 4]]], dtype=np.uint8))
    assert data.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\2\0\0\0\2\x08\0\0\0\0")
    assert b"IDAT\x78\x01\x01\x06\x00\xf9\xff" + lines + zlib.adler32(lines).to_bytes(4, "big") in data
    assert data.endswith(b"IEND\xaeB`\x82")


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((2, 4, 4), np.uint8),
        np.zeros((1, 0, 4), np.uint8),
        np.zeros((1, 4, 4), np.float32),
    ],
)
def test_other_shapes_and_types_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="need uint8"):
        encode_png(pixels)
