"""Reconstructions that are kept for viewing in the folder of their run: images, and spectra of chosen pixels."""

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from lorun.data.cubes import WAVELENGTHS
from lorun.errors import LorunError
from lorun.evaluation.rendering import to_pixels
from lorun.files import write_atomically, write_text

_SPECTRA = ".spectra.csv"


def image_path(run: Path, dataset: str, image: str) -> Path:
    """The file of a reconstruction below the folder of its run."""
    return run / "reconstructions" / dataset / f"{image}.png"


def spectra_path(run: Path, dataset: str, image: str) -> Path:
    """The file of the spectra of a reconstruction below the folder of its run."""
    return run / "reconstructions" / dataset / f"{image}{_SPECTRA}"


def write_image(path: Path, image: Tensor) -> None:
    """Write (C, H, W) in [0, 1] as an 8-bit PNG: clipped and rounded; a cube is rendered in colour."""
    from PIL import Image

    pixels = to_pixels(image.numpy())
    shown = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    write_atomically(path, lambda part: shown.save(part, format="PNG"))


def write_spectra(path: Path, points: Iterable[tuple[int, int]], estimate: Tensor, truth: Tensor | None) -> None:
    """Write the spectra of cubes (28, H, W) at points (row, column) as CSV: a line per point and band.

    The estimate is not clipped; the column `truth` is empty for measurements; `wavelength` is in nm.

    Raises:
        LorunError: a point lies outside of the cube.
    """
    lines = ["row,column,wavelength,estimate,truth\n"]
    height, width = estimate.shape[1:]
    for row, column in points:
        if row >= height or column >= width:
            image = f"{path.parent.name}/{path.name.removesuffix(_SPECTRA)}"
            raise LorunError(f"`evaluation.points`: [{row}, {column}] is outside of {image}, {height} x {width} pixels")
        for band, wavelength in enumerate(WAVELENGTHS):
            true = "" if truth is None else f"{truth[band, row, column].item():.6f}"
            lines.append(f"{row},{column},{wavelength},{estimate[band, row, column].item():.6f},{true}\n")
    write_text(path, "".join(lines))
