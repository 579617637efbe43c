"""Images as people see them: 8-bit gray or sRGB, spectral cubes by way of the CIE 1931 standard observer."""

import numpy as np
from numpy.typing import NDArray

from lorun.data.cubes import WAVELENGTHS
from lorun.errors import LorunError

# x, y, z of the CIE 1931 2 degree standard observer at the 28 wavelengths, linear between the 1 nm of colour-science's
# table. A copy, because importing that package takes seconds; a test compares the two.
_OBSERVER = (
    (0.32551, 0.04439, 1.75700),
    (0.30553, 0.05402, 1.71191),
    (0.27594, 0.06555, 1.62067),
    (0.23205, 0.07962, 1.44884),
    (0.17768, 0.09739, 1.20766),
    (0.12737, 0.12010, 0.97077),
    (0.08250, 0.14815, 0.74587),
    (0.04684, 0.18283, 0.55361),
    (0.02276, 0.23078, 0.40726),
    (0.00797, 0.29505, 0.30134),
    (0.00226, 0.38753, 0.22459),
    (0.00907, 0.50099, 0.15924),
    (0.03608, 0.63354, 0.10246),
    (0.08696, 0.75702, 0.06580),
    (0.15968, 0.85575, 0.04353),
    (0.24469, 0.92791, 0.02670),
    (0.34267, 0.97507, 0.01484),
    (0.45501, 0.99727, 0.00777),
    (0.57118, 0.99747, 0.00434),
    (0.72044, 0.96651, 0.00237),
    (0.84713, 0.91288, 0.00179),
    (0.97063, 0.82420, 0.00144),
    (1.05416, 0.70246, 0.00101),
    (1.04990, 0.57707, 0.00064),
    (0.94707, 0.44852, 0.00025),
    (0.74922, 0.31983, 0.00010),
    (0.51688, 0.20558, 0.00003),
    (0.31152, 0.11818, 0.00000),
)

_D65 = (0.3127, 0.3290)
_PRIMARIES = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))  # of sRGB, x and y, as the white is (IEC 61966-2-1)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def to_pixels(image: np.ndarray) -> NDArray[np.uint8]:
    """8-bit pixels, (1, H, W) or (3, H, W), of an image: bytes as they are, or floats (C, H, W) in [0, 1].

    One and three channels are clipped and rounded, 28 rendered.

    Raises:
        LorunError: another number of channels.
    """
    if len(image) == len(WAVELENGTHS):
        return render(image)
    if len(image) not in (1, 3):
        raise LorunError(f"images have 1 (gray), 3 (RGB) or 28 (spectral) channels, not {len(image)}")
    return image if image.dtype == np.uint8 else _rounded(image)


def render(cube: np.ndarray) -> NDArray[np.uint8]:
    """A cube of reflectances (28, H, W) in [0, 1] -> sRGB (3, H, W).

    The light has equal energy at every wavelength, and the integral over 453.3 to 648.1 nm is that of the trapezoidal
    rule. The white that a reflectance of 1 gives is adapted to that of sRGB (Bradford), so it is (255, 255, 255). What
    sRGB cannot show is clipped.
    """
    light = np.einsum("cb,bhw->chw", _bands_to_rgb().astype(np.float32), cube).clip(0, 1)
    return _rounded(np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055))


def _rounded(image: np.ndarray) -> NDArray[np.uint8]:
    return np.rint(image.clip(0, 1) * 255).astype(np.uint8)


def _bands_to_rgb() -> NDArray[np.float64]:
    """Linear sRGB of each band: (3, 28), whose rows sum to 1."""
    spacing = np.diff(WAVELENGTHS)
    widths = (np.append(spacing, 0) + np.insert(spacing, 0, 0)) / 2  # trapezoids: half the way to either neighbour
    xyz = np.array(_OBSERVER).T * widths
    white, daylight = xyz.sum(axis=1), _xyz(_D65)
    adapted = np.linalg.solve(_BRADFORD, (_BRADFORD @ xyz) * (_BRADFORD @ daylight / (_BRADFORD @ white))[:, None])
    primaries = np.stack([_xyz(primary) for primary in _PRIMARIES], axis=1)
    return np.linalg.solve(primaries * np.linalg.solve(primaries, daylight), adapted)


def _xyz(chromaticity: tuple[float, float]) -> NDArray[np.float64]:
    """X, Y and Z of a colour with Y = 1."""
    x, y = chromaticity
    return np.array([x / y, 1, (1 - x - y) / y])
