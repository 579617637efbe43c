"""Images: 8-bit photographs and spectral cubes, from any folder or from a checksummed dataset."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lorun.data.checksums import read_verified, split_files, unique_names
from lorun.data.content import opened_image, read_bytes
from lorun.data.cubes import SUFFIXES as CUBE_SUFFIXES
from lorun.data.cubes import CubeFiles, open_cubes, read_cube
from lorun.data.listing import check_name, files_in
from lorun.data.progress import track
from lorun.data.registry import entry_of
from lorun.errors import LorunError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

Pixels = NDArray[np.uint8]

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff")
_KIND_OF_CHANNELS = {1: "gray", 3: "rgb", 28: "cube"}


def luminance(rgb: Pixels) -> Pixels:
    """Y of YCrCb, full range: (3, H, W) -> (1, H, W), both uint8.

    0.299 R + 0.587 G + 0.114 B in 14-bit fixed point, the same to the bit as OpenCV's COLOR_RGB2YCrCb.
    """
    r, g, b = rgb.astype(np.int32)
    return ((4899 * r + 9617 * g + 1868 * b + (1 << 13)) >> 14).astype(np.uint8)[None]


def read_image(path: Path, channels: int) -> Pixels:
    """The pixels of an 8-bit image file as uint8 of shape (channels, H, W), 0..255; `channels` is 1 or 3.

    A colour image becomes its luminance for one channel; a gray image is repeated for three. Palettes are resolved,
    opaque alpha channels dropped, orientation tags and colour profiles ignored.

    Raises LorunError when the file cannot be read, is damaged, holds several images, is transparent, or is not 8-bit
    gray or RGB.
    """
    return _decode(read_bytes(path), path, channels)


def load_dataset(root: Path, name: str, split: str, channels: int) -> dict[str, np.ndarray]:
    """The images of a split: name -> uint8 (C, H, W), or float32 (28, H, W), in the order of their paths.

    The splits are those of the registry. A dataset without an entry there has its images in
    `root`/<name>/<split>/gray (1 channel), rgb (3) or cube (28). Each file is checked against the manifest first.
    Photographs are held in memory, cubes are memory maps (`lorun.data.cubes.open_cubes`).

    Raises UnknownName for an unknown dataset or split; LorunError for a missing or damaged file, when the split has no
    images of that kind, and when two have the same name.
    """
    kind = kind_of(channels)
    files = split_files(root, name, split, kind)
    if kind == "cube":
        return open_cubes(root, name, files, entry_of(root, name).cubes, split)
    return {
        image: _decode(read_verified(root, name, file, files[file]), root / name / file, channels)
        for image, file in unique_names(files).items()
    }


def load_folder(folder: Path, channels: int) -> Mapping[str, np.ndarray]:
    """All images directly in `folder`: file name without suffix -> uint8 (C, H, W), or float32 (28, H, W), sorted.

    Photographs are png, tif, bmp, jpg, pgm or ppm files, cubes are mat or npy files. Other files are passed over, which
    is said.

    Raises LorunError when the folder does not exist or has no images, when two names are the same, and as
    `lorun.data.listing.files_in`, `read_image` and `lorun.data.cubes.read_cube` do.
    """
    is_cube = kind_of(channels) == "cube"
    suffixes = CUBE_SUFFIXES if is_cube else _SUFFIXES
    if not folder.is_dir():
        raise LorunError(f"no folder {folder}: name a folder of images")
    check_name(folder.resolve())  # it is the dataset of the scores
    files = unique_names(map(str, files_in(folder, [f"*{suffix}" for suffix in suffixes])))
    if not files:
        raise LorunError(f"no images in {folder}: looked for {', '.join(suffixes)}")
    paths = {name: Path(file) for name, file in files.items()}
    if not is_cube:
        return {name: read_image(path, channels) for name, path in paths.items()}
    for path in track(list(paths.values()), "checking"):
        read_cube(path)
    return CubeFiles(paths)


def kind_of(channels: int) -> str:
    """What `lorun.data.checksums.split_files` calls images of so many channels. Raises LorunError for other numbers."""
    if channels not in _KIND_OF_CHANNELS:
        raise LorunError(f"images have 1 (gray), 3 (RGB) or 28 (spectral) channels, not {channels}")
    return _KIND_OF_CHANNELS[channels]


def _decode(data: bytes, path: Path, channels: int) -> Pixels:
    if channels not in (1, 3):
        raise LorunError(f"photographs have 1 (gray) or 3 (RGB) channels, not {channels}")
    with opened_image(path, data) as image:
        _refuse_unusual(image, path)
        pixels = np.asarray(image.convert("L" if image.mode in {"1", "L", "LA"} else "RGB"))
    if pixels.ndim == 2:
        return np.repeat(pixels[None], channels, axis=0)
    rgb = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return rgb if channels == 3 else luminance(rgb)


def _refuse_unusual(image: "ImageFile", path: Path) -> None:
    if image.mode[0] in "IF" or _is_deeper_than_8_bits(image):
        raise LorunError(f"{path} is not 8-bit gray or RGB (Pillow calls it {image.mode}): convert it to 8 bits first")
    if image.mode not in {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}:
        raise LorunError(f"{path} has the colours {image.mode}: convert it to gray or RGB first")
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] != 255:
        raise LorunError(f"{path} is partly transparent: flatten it onto a background first")


def _is_deeper_than_8_bits(image: "ImageFile") -> bool:
    """Pillow opens 16-bit RGB as 8-bit RGB without a warning; only the arguments of its decoder show it."""
    for tile in image.tile:
        args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
        if ";16" in str(args[0]) or (tile.codec_name.startswith("ppm") and args[-1] > 255):
            return True
    return False
