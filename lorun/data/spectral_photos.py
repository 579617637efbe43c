"""The dataset `photos_spectral`: spectral cubes *simulated* from the colour photographs of `photos`.

It replaces measured cubes where nothing can be downloaded. The reflectance of a pixel is the sum of three spectral
primaries, weighted by its linear red, green and blue (Mallett and Yuksel, "Spectral Primary Decomposition for Rendering
with sRGB Reflectance", EGSR 2019; the primaries are those of colour-science). So all spectra are smooth and lie in a
space of three dimensions: scores on this dataset say little about measured scenes.

`lorun data make photos_spectral` builds it without network and checks it against data/photos_spectral.md5. The bytes
are the same on every machine: all sums are of integers, and the two tables of floats behind them are not close to where
rounding could go either way, which a test checks.
"""

import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lorun.data.cubes import WAVELENGTHS
from lorun.data.images import read_image
from lorun.data.photos import SOURCES, Source, locate
from lorun.errors import extra
from lorun.files import replace_files

SIDE = 256
"""Largest height and width of a cube, pixels."""

SPECTRAL_SOURCES = tuple(source for source in SOURCES if "rgb" in source.kinds)

_LEVELS = 65535  # of the stored values and of the linear colours
_BITS = 24  # fractional bits of the primaries


def build(out: Path, sources: Iterable[Source] = SPECTRAL_SOURCES) -> None:
    """Fill `out` anew: <split>/cube/<name>.npy of every colour photograph, uint16 (28, H, W), 65535 for full light.

    Raises LorunError when a package or its file is missing or cannot be read; `out` is then not changed.
    """
    primaries = spectral_primaries()
    files = (
        (f"{source.split}/cube/{source.name}.npy", _encode_npy(simulate(read_image(locate(source), 3), primaries)))
        for source in sources
    )
    replace_files(out, files)


def simulate(rgb: NDArray[np.uint8], primaries: NDArray[np.int64]) -> NDArray[np.uint16]:
    """A cube (28, H', W') from a photograph (3, H, W) in sRGB; `primaries` is `spectral_primaries()`.

    Photographs of twice `SIDE` pixels or more are halved, with the mean light of 2 x 2 pixels. Then the centre of at
    most `SIDE` pixels is cropped.
    """
    light = np.rint(exact_light()).astype(np.int64)[rgb]  # (3, H, W)
    height, width = light.shape[1:]
    if min(height, width) // 2 >= SIDE:
        height, width = height // 2, width // 2
        fours = light[:, : 2 * height, : 2 * width].reshape(3, height, 2, width, 2).sum(axis=(2, 4))
    else:
        fours = 4 * light
    top, left = (max(0, side - SIDE) // 2 for side in (height, width))
    spectra = np.tensordot(primaries, fours[:, top : top + SIDE, left : left + SIDE], 1)  # (28, H', W')
    half = 1 << (_BITS + 1)
    return ((spectra + half) >> (_BITS + 2)).clip(max=_LEVELS).astype(np.uint16)


def spectral_primaries() -> NDArray[np.int64]:
    """The reflectance of red, green and blue light at the 28 wavelengths: (28, 3), in units of 2**-24."""
    return np.rint(exact_primaries()).astype(np.int64)


def exact_light() -> NDArray[np.float64]:
    """The light of the 256 values of sRGB (IEC 61966-2-1) in 65535ths, before rounding."""
    value = np.arange(256) / 255
    return _LEVELS * np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def exact_primaries() -> NDArray[np.float64]:
    """`spectral_primaries` before rounding, interpolated linearly from the 5 nm table."""
    with extra("workflow", "photos_spectral"):
        from colour.recovery import MSDS_BASIS_FUNCTIONS_sRGB_MALLETT2019 as TABLE  # takes a second or two

    return 2**_BITS * np.stack([np.interp(WAVELENGTHS, TABLE.wavelengths, column) for column in TABLE.values.T], axis=1)


def _encode_npy(cube: NDArray[np.uint16]) -> bytes:
    """The cube as a .npy file of version 1.0. The header is padded here, since NumPy versions pad it differently."""
    header = f"{{'descr': '<u2', 'fortran_order': False, 'shape': {cube.shape}, }}"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + f"{header:117}\n".encode() + cube.astype("<u2").tobytes()
