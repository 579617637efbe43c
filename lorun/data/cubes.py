"""Spectral cubes: read, converted to the 28 bands of the field, and cached on disk so that they need no memory.

A cube is float32 (28, H, W) in [0, 1] with its bands at `WAVELENGTHS`. In .mat files it is stored as height x width x
bands, in .npy files as bands x height x width. Integers are divided by the largest value of their type. Cubes of 31
bands, 400 to 700 nm in steps of 10, are resampled to the 28 by linear interpolation.
"""

import json
from bisect import bisect_left
from collections import UserDict
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorun.data.arrays import read_array
from lorun.data.checksums import md5_of_bytes, read_verified, unique_names
from lorun.data.content import opened_image
from lorun.data.progress import track
from lorun.data.registry import CubeFormat
from lorun.errors import LorunError
from lorun.files import locked, write_atomically

Cube = NDArray[np.float32]

# fmt: off
WAVELENGTHS = (
    453.3, 457.6, 462.1, 466.8, 471.6, 476.5, 481.6, 486.9, 492.4, 498.0, 503.9, 509.9, 516.2, 522.7,
    529.5, 536.5, 543.8, 551.4, 558.6, 567.5, 575.3, 584.3, 594.4, 604.2, 614.4, 625.1, 636.3, 648.1,
)
# fmt: on
"""Of the bands of a cube, nm: those of the KAIST scenes."""

SUFFIXES = (".mat", ".npy")

VARIABLES = ("img", "img_expand", "cube", "truth", "Omsi")
"""Accepted names of the cube in a .mat file that no registry describes; else its only variable of three dimensions."""

_GRIDS = {"kaist": WAVELENGTHS, "cave": tuple(range(400, 701, 10))}
_KNOWN = "28 (453.3 to 648.1 nm, as KAIST) and 31 (400 to 700 nm in steps of 10, as CAVE)"

_VERSION = 1  # of the conversion: increase it when `read_cube` gives other values


def read_cube(path: Path, stored: CubeFormat | None = None, data: bytes | None = None) -> Cube:
    """The cube in a file, (28, H, W); `stored` is the format of its dataset, `data` the file's content if already read.

    Raises:
        LorunError: the file cannot be read or holds no such cube, has another number of bands, or values that are not
            finite or outside [0, 1] after division.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise LorunError(f"{path} is not a file of a cube: use {' or '.join(SUFFIXES)}")
    accepted = stored.variable if stored is not None else None
    values, what = read_array(path, data, accepted or VARIABLES, or_single_cube=accepted is None)
    layout = "height x width x bands" if suffix == ".mat" else "bands x height x width"
    if values.ndim != 3:
        raise LorunError(f"{what} has shape {values.shape}, expected {layout}")
    bands = values.transpose(2, 0, 1) if suffix == ".mat" else values
    return _converted(bands, what, f"{layout}: {values.shape}", stored)


def _converted(bands: np.ndarray, what: str, layout: str, stored: CubeFormat | None) -> Cube:
    """A cube as read_cube gives it, from stored bands (bands, H, W); `what` and `layout` name it in errors."""
    grids = list(_GRIDS.values()) if stored is None else [_GRIDS[stored.wavelengths]]
    grid = next((grid for grid in grids if len(grid) == len(bands)), None)
    if grid is None:
        known = _KNOWN if stored is None else f"{len(grids[0])}, as the registry says"
        raise LorunError(f"{what} has {len(bands)} bands ({layout}); known are {known}")
    most = stored.divide if stored is not None else None
    if most is None:
        most = 1.0 if bands.dtype.kind == "f" else float(np.iinfo(bands.dtype).max)
    low, high = float(bands.min()), float(bands.max())
    if low < 0 or high > most:
        divided = "" if most == 1 else f" (they are divided by {most:g})"
        raise LorunError(f"{what} has values from {low:g} to {high:g}, expected 0 to {most:g}{divided}")
    cube = np.empty((len(WAVELENGTHS), *bands.shape[1:]), np.float32)
    for band, wavelength in zip(cube, WAVELENGTHS, strict=True):
        band[...] = _interpolated(bands, grid, wavelength) / most
    return cube


def open_cubes(
    root: Path, name: str, files: Mapping[str, str], stored: CubeFormat | None, split: str
) -> dict[str, np.ndarray]:
    """The cubes of the files of a split (path -> md5), by name, as read-only memory maps.

    A name is that of the file, or of the folder of bands; of a tile, it ends in its row and column. Each file is
    verified and each cube converted once, into `root`/.cubes. The name of a converted file is the hash of the md5 of
    its source, the format and the version of the conversion.

    Raises:
        LorunError: as `read_cube` does; a file is missing or damaged; `root`/.cubes cannot be written.
    """
    folder, sources = root / ".cubes", _sources(files, stored)
    cached = {cube: folder / f"{_key([files[part] for part in parts], stored)}.npy" for cube, parts in sources.items()}
    if any(_opened(path) is None for path in cached.values()):
        with locked(folder, "converting"):
            missing = [cube for cube, path in cached.items() if _opened(path) is None]  # another process made the rest
            for cube in track(missing, f"{name}: converting"):
                parts = {root / name / part: read_verified(root, name, part, files[part]) for part in sources[cube]}
                write_atomically(cached[cube], partial(_save, _read(parts, stored)))
    opened = {cube: np.load(path, mmap_mode="r", allow_pickle=False) for cube, path in cached.items()}
    if stored is None or stored.tiles is None or split != "test":
        return opened
    return {name: tile for cube, values in opened.items() for name, tile in _tiles(cube, values, stored.tiles)}


def _sources(files: Mapping[str, str], stored: CubeFormat | None) -> dict[str, list[str]]:
    """The files of each cube, by its name."""
    if stored is None or not stored.bands:
        return {name: [file] for name, file in unique_names(files).items()}
    found: dict[str, list[str]] = {}
    for file in sorted(files):
        found.setdefault(Path(file).parent.name, []).append(file)
    return found


def _read(parts: Mapping[Path, bytes], stored: CubeFormat | None) -> Cube:
    """The cube in a file, or in the images of its bands."""
    if stored is None or not stored.bands:
        [(path, data)] = parts.items()
        return read_cube(path, stored, data)
    bands = [read_band(path, data) for path, data in parts.items()]
    folder = next(iter(parts)).parent
    if len({band.shape for band in bands}) > 1:
        raise LorunError(f"{folder} has bands of different sizes")
    cube = np.stack(bands)
    return _converted(cube, str(folder), f"an image each, {cube.shape[1]} x {cube.shape[2]}", stored)


def read_band(path: Path, data: bytes) -> np.ndarray:
    """A gray image of 8 or 16 bits as (H, W) in its stored type. Raises LorunError where it is anything else."""
    with opened_image(path, data, ["PNG", "TIFF"]) as image:
        mode, band = image.mode, np.asarray(image)
    if band.ndim != 2 or band.dtype not in (np.uint8, np.uint16):
        raise LorunError(f"{path} is no gray image of 8 or 16 bits (Pillow calls it {mode})")
    return band


def _tiles(name: str, cube: np.ndarray, side: int) -> Iterator[tuple[str, np.ndarray]]:
    """Whole squares of a cube from its top left, by name and place; what is left at the right and bottom is dropped."""
    _, height, width = cube.shape
    for row in range(height // side):
        for column in range(width // side):
            top, left = row * side, column * side
            yield f"{name}_{row}_{column}", cube[:, top : top + side, left : left + side]


class CubeFiles(UserDict[str, Any]):
    """The cubes of any files, name -> (28, H, W): each is read when it is used, so only one of them is in memory."""

    def __getitem__(self, name: str) -> Cube:
        return read_cube(self.data[name])


def _interpolated(bands: np.ndarray, grid: tuple[float, ...], wavelength: float) -> NDArray[np.float64]:
    """The band at a wavelength, (H, W), interpolated between its neighbours in `grid`."""
    above = bisect_left(grid, wavelength)
    upper = bands[above].astype(np.float64)
    if grid[above] == wavelength:
        return upper
    weight = (wavelength - grid[above - 1]) / (grid[above] - grid[above - 1])
    return (1 - weight) * bands[above - 1].astype(np.float64) + weight * upper


def _key(md5s: list[str], stored: CubeFormat | None) -> str:
    format_ = None if stored is None else stored.model_dump(mode="json", exclude={"tiles"})
    return md5_of_bytes(json.dumps([_VERSION, md5s, format_], sort_keys=True).encode())


def _save(cube: Cube, path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, cube.astype("<f4", copy=False))


def _opened(path: Path) -> np.ndarray | None:
    """The array of a converted file; None if the file is missing or damaged. Changed values are not noticed."""
    try:
        cube: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # numpy raises almost anything on damaged files
        return None
    return cube if cube.dtype == np.dtype("<f4") and cube.ndim == 3 and len(cube) == len(WAVELENGTHS) else None
