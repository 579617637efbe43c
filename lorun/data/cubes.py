"""Spectral cubes: read, converted to the 28 bands of the field, and cached on disk so that they need no memory.

A cube is float32 (28, H, W) in [0, 1] with its bands at `WAVELENGTHS`. In .mat files it is stored as height x width x
bands, in .npy files as bands x height x width. Integers are divided by the largest value of their type. Cubes of 31
bands, 400 to 700 nm in steps of 10, are resampled to the 28 by linear interpolation.
"""

import json
from bisect import bisect_left
from collections import UserDict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorun.data.arrays import read_array
from lorun.data.checksums import md5_of_bytes, read_verified
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
    grids = list(_GRIDS.values()) if stored is None else [_GRIDS[stored.wavelengths]]
    grid = next((grid for grid in grids if len(grid) == len(bands)), None)
    if grid is None:
        known = _KNOWN if stored is None else f"{len(grids[0])}, as the registry says"
        raise LorunError(f"{what} has {len(bands)} bands ({layout}: {values.shape}); known are {known}")
    most = stored.divide if stored is not None else None
    if most is None:
        most = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > most:
        divided = "" if most == 1 else f" (they are divided by {most:g})"
        raise LorunError(f"{what} has values from {low:g} to {high:g}, expected 0 to {most:g}{divided}")
    cube = np.empty((len(WAVELENGTHS), *bands.shape[1:]), np.float32)
    for band, wavelength in zip(cube, WAVELENGTHS, strict=True):
        band[...] = _interpolated(bands, grid, wavelength) / most
    return cube


def open_cubes(root: Path, name: str, files: Mapping[str, str], stored: CubeFormat | None) -> list[np.ndarray]:
    """The cubes of some files of a dataset (path -> md5) as read-only memory maps.

    Each file is verified and converted once, into `root`/.cubes. The name of a converted file is the hash of the md5 of
    its source, the format and the version of the conversion.

    Raises:
        LorunError: as `read_cube` does; a file is missing or damaged; `root`/.cubes cannot be written.
    """
    folder = root / ".cubes"
    cached = {file: folder / f"{_key(md5, stored)}.npy" for file, md5 in files.items()}
    if any(_opened(path) is None for path in cached.values()):
        with locked(folder, "converting"):
            missing = [file for file, path in cached.items() if _opened(path) is None]  # another process made the rest
            for file in track(missing, f"{name}: converting"):
                cube = read_cube(root / name / file, stored, read_verified(root, name, file, files[file]))
                write_atomically(cached[file], partial(_save, cube))
    return [np.load(path, mmap_mode="r", allow_pickle=False) for path in cached.values()]


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


def _key(md5: str, stored: CubeFormat | None) -> str:
    format_ = None if stored is None else stored.model_dump(mode="json")
    return md5_of_bytes(json.dumps([_VERSION, md5, format_], sort_keys=True).encode())


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
