"""Images for viewing: 8-bit gray or sRGB; spectral cubes are rendered with the CIE 1931 standard observer."""

import numpy as np
from numpy.typing import NDArray

from lorun.data.cubes import WAVELENGTHS
from lorun.errors import LorunError

# x, y, z of the CIE 1931 2 degree standard observer at the 28 wavelengths in units of 1e-5, interpolated linearly from
# the 1 nm table of colour-science. A copy, because importing that package takes seconds; a test compares the two.
# fmt: off
_OBSERVER = (
    (
        32551, 30553, 27594, 23205, 17768, 12737, 8250, 4684, 2276, 797, 226, 907, 3608, 8696,
        15968, 24469, 34267, 45501, 57118, 72044, 84713, 97063, 105416, 104990, 94707, 74922, 51688, 31152,
    ),
    (
        4439, 5402, 6555, 7962, 9739, 12010, 14815, 18283, 23078, 29505, 38753, 50099, 63354, 75702,
        85575, 92791, 97507, 99727, 99747, 96651, 91288, 82420, 70246, 57707, 44852, 31983, 20558, 11818,
    ),
    (
        175700, 171191, 162067, 144884, 120766, 97077, 74587, 55361, 40726, 30134, 22459, 15924, 10246, 6580,
        4353, 2670, 1484, 777, 434, 237, 179, 144, 101, 64, 25, 10, 3, 0,
    ),
)
# fmt: on

_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def to_pixels(image: np.ndarray) -> NDArray[np.uint8]:
    """8-bit pixels, (1, H, W) or (3, H, W), of an image: bytes stay the same, floats (C, H, W) lie in [0, 1].

    Images of one and three channels are clipped and rounded, cubes of 28 bands are rendered.

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

    The light has equal energy at every wavelength; the integral over 453.3 to 648.1 nm uses the trapezoidal rule. White
    is adapted to that of sRGB (Bradford), so a reflectance of 1 is (255, 255, 255). Colours outside sRGB are clipped.
    """
    from skimage.color import xyz2rgb
    from skimage.color.colorconv import xyz_from_rgb

    spacing = np.diff(WAVELENGTHS)
    bands = np.array(_OBSERVER) * (np.append(spacing, 0) + np.insert(spacing, 0, 0))  # (3, 28)
    gains = (_BRADFORD @ xyz_from_rgb.sum(axis=1)) / (_BRADFORD @ bands.sum(axis=1))
    adapted = np.linalg.solve(_BRADFORD, (_BRADFORD @ bands) * gains[:, None])
    return _rounded(xyz2rgb(np.einsum("xb,bhw->hwx", adapted, cube)).transpose(2, 0, 1))


def _rounded(image: np.ndarray) -> NDArray[np.uint8]:
    return np.rint(image.clip(0, 1) * 255).astype(np.uint8)
