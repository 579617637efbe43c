"""Pictures of any kind as a person would expect to see them, and pictures written as 8-bit PNG."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lorun.data.content import opened_image, read_bytes
from lorun.data.cubes import SUFFIXES as CUBES
from lorun.data.cubes import WAVELENGTHS, read_cube
from lorun.data.spectral_photos import exact_primaries
from lorun.errors import LorunError
from lorun.evaluation.rendering import to_pixels
from lorun.files import write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "PPM", "WEBP", "GIF")
PHOTOS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
BANDS = len(WAVELENGTHS)

_DETAIL = 96  # side of the detail on a sheet, pixels
_EIGHT_BITS = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr"}
_DEEP_GRAY = {"I;16", "I;16B", "I;16L", "I;16N", "I", "F"}
_GRAY = {"1", "L", "LA", "La", *_DEEP_GRAY}


class Photo(NamedTuple):
    """`values` are (C, H, W) in [0, 1], with C = 1 (gray), 3 (RGB) or 28 (a spectral cube); `profile` is the colour
    profile of the file, if any."""

    values: Tensor
    profile: bytes | None = None


def read_picture(path: Path, channels: int) -> Photo:
    """The picture in a file, for a model of images of `channels` channels: a photograph for 1 and 3; for 28 a
    cube, or a photograph, whose spectra are simulated (`as_cube`).

    Raises:
        LorunError: as `read_photo` and `lorun.data.cubes.read_cube` do; a cube is given to a model of photographs.
    """
    if path.suffix.lower() not in CUBES:
        photo = read_photo(path)
        return Photo(as_cube(photo.values)) if channels == BANDS else photo
    if channels != BANDS:
        raise LorunError(f"{path}: this model restores photographs: give {', '.join(PHOTOS)}")
    return Photo(torch.from_numpy(read_cube(path)))


def read_photo(path: Path) -> Photo:
    """A photograph, gray or RGB, upright.

    The orientation of the camera (EXIF) is applied, palettes are resolved, and what is transparent is laid over white.
    Gray of 16 bits is divided by 65535; of colours with 16 bits, the lower 8 are left out.

    Raises:
        LorunError: the file is missing, damaged, no picture, or holds several; it is CMYK, or of another kind; values
            are outside of the range.
    """
    from PIL import ImageOps

    with opened_image(path, read_bytes(path), FORMATS) as image:
        if image.mode not in _EIGHT_BITS | _DEEP_GRAY:
            raise LorunError(f"{path} has the colours {image.mode}: convert it to gray or RGB first")
        profile = image.info.get("icc_profile")
        upright: Image = ImageOps.exif_transpose(image)
        values = _deep(upright, path) if image.mode in _DEEP_GRAY else _over_white(upright)
    return Photo(torch.from_numpy(values), profile if isinstance(profile, bytes) else None)


def as_cube(values: Tensor) -> Tensor:
    """Reflectances of 28 bands that have the colours of a photograph in sRGB: (1 or 3, H, W) -> (28, H, W).

    They are simulated as those of the dataset `photos_spectral` (`lorun.data.spectral_photos`).
    """
    primaries = torch.from_numpy(exact_primaries()).float()
    primaries = primaries / primaries.sum(1, keepdim=True)  # white reflects all light
    light = torch.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return torch.einsum("bc,chw->bhw", primaries, light.expand(3, -1, -1)).clamp(0, 1)


def in_channels(values: Tensor, channels: int) -> Tensor:
    """A picture as images of a model: (C, H, W) -> (B, channels, H, W).

    For a gray model, each channel of a colour photograph is an image of the batch; for a colour model, a gray
    photograph has three equal channels.
    """
    if channels == 1:
        return values[:, None]
    return values.expand(channels, -1, -1)[None]


def as_before(images: Tensor, channels: int) -> Tensor:
    """The inverse of `in_channels`, for a picture of `channels` channels: of equal ones, the mean."""
    picture = images.flatten(0, 1)
    return picture if len(picture) == channels else picture.mean(0, keepdim=True)


def write_photo(path: Path, values: Tensor, profile: bytes | None = None) -> None:
    """Write (C, H, W) in [0, 1] as an 8-bit PNG; a cube is rendered in colour."""
    from PIL import Image

    pixels = to_pixels(values.numpy())
    shown = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    write_atomically(path, lambda part: shown.save(part, format="PNG", icc_profile=profile))


def write_sheet(path: Path, panels: Mapping[str, Tensor]) -> None:
    """Write images (C, H, W) in [0, 1] of one size, by title, side by side as a PNG, a detail from the middle below."""
    from matplotlib.figure import Figure

    height, width = next(iter(panels.values())).shape[1:]
    side = min(_DETAIL, height, width)
    top, left = (height - side) // 2, (width - side) // 2
    figure = Figure(figsize=(4 * len(panels), 4 * (height / width + 1) + 0.5), layout="constrained")
    axes = figure.subplots(2, len(panels), squeeze=False, height_ratios=[height / width, 1])
    for (whole, detail), (title, image) in zip(axes.T, panels.items(), strict=True):
        pixels = to_pixels(image.numpy()).transpose(1, 2, 0)
        whole.set_title(title)
        for axis, shown in ((whole, pixels), (detail, pixels[top : top + side, left : left + side])):
            axis.imshow(shown.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set_axis_off()
    write_atomically(path, lambda part: figure.savefig(part, format="png", dpi=150))


def write_cube(path: Path, values: Tensor) -> None:
    """Write a cube (28, H, W), clipped to [0, 1]: .npy as it is, .mat as `cube`, height x width x bands."""
    from scipy.io import savemat

    cube = values.clamp(0, 1).numpy()

    def write(part: Path) -> None:
        with part.open("wb") as stream:
            if path.suffix == ".mat":
                savemat(stream, {"cube": cube.transpose(1, 2, 0)}, do_compression=True)
            else:
                np.save(stream, cube)

    write_atomically(path, write)


def _over_white(image: "Image") -> np.ndarray:
    from PIL import Image

    mode = "L" if image.mode in _GRAY else "RGB"
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    pixels = np.asarray(image.convert(mode), np.float32) / 255
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _deep(image: "Image", path: Path) -> np.ndarray:
    """Gray of 16 bits, which Pillow may hold in 32, or of floats in [0, 1]."""
    pixels = np.asarray(image).astype(np.float64)
    most = 1.0 if image.mode == "F" else 65535.0
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= most):  # nor NaN
        raise LorunError(f"{path} has values from {low:g} to {high:g}, expected 0 to {most:g}; convert it to 8 bits")
    return (pixels / most).astype(np.float32)[None]
