"""Spectral cubes: read, brought to the 28 bands of the field, and kept on disk so that memory need not hold them.

A cube is float32 (28, H, W) in [0, 1], its bands at `WAVELENGTHS`. In .mat files it lies as height x width x bands, in
.npy files as bands x height x width. Integers are divided by the largest value of their type, and what has 31 bands,
400 to 700 nm in steps of 10, is resampled to the 28 by linear interpolation between its neighbouring bands.
"""

import fcntl
import json
import os
import sys
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lorun.data.arrays import flaw, mat_variables, named, read_mat, read_npy
from lorun.data.checksums import md5_of_bytes, read_verified
from lorun.data.progress import shown
from lorun.data.registry import CubeFormat
from lorun.errors import LorunError
from lorun.files import write_atomically

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
"""Names of the cube in a .mat file that no registry describes, the first that is there; else its one 3-D variable."""

_GRIDS = {"kaist": WAVELENGTHS, "cave": tuple(range(400, 701, 10))}
_KNOWN = "28 (453.3 to 648.1 nm, as KAIST) and 31 (400 to 700 nm in steps of 10, as CAVE)"

_KEPT = ".cubes"
_VERSION = 1  # of the conversion: whoever changes what `read_cube` gives counts up


def read_cube(path: Path, stored: CubeFormat | None = None, data: bytes | None = None) -> Cube:
    """The cube in a file, (28, H, W); `stored` is how its dataset has it, `data` the file's content where it is known.

    Raises:
        LorunError: the file cannot be read or holds no such cube; another number of bands; values that are not finite,
            or outside [0, 1] after division; the file, what it has and what is expected are named.
    """
    values, what = _stored_array(path, stored, data)
    wrong = flaw(values)
    if wrong is not None:
        raise LorunError(f"{what} {wrong}")
    layout = "height x width x bands" if path.suffix.lower() == ".mat" else "bands x height x width"
    if values.ndim != 3:
        raise LorunError(f"{what} has shape {values.shape}, expected {layout}")
    bands = values.transpose(2, 0, 1) if path.suffix.lower() == ".mat" else values
    grids = _GRIDS if stored is None else {stored.wavelengths: _GRIDS[stored.wavelengths]}
    grid = next((grid for grid in grids.values() if len(grid) == len(bands)), None)
    if grid is None:
        known = _KNOWN if stored is None else f"{len(_GRIDS[stored.wavelengths])}, as the registry says"
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
    """The cubes of some files of a dataset, path -> md5, opened on disk: read-only, read where they are looked at.

    Each is converted once, one at a time, into `root`/.cubes/MD5.npy, MD5 being that of the file it came from; only
    then is the file read, and checked. What is there already is taken if it ends with the seal of this conversion
    (of this version, of these bytes, stored in this way) where its header says that it ends. So half a file, another
    shape, another array and an older conversion are made anew; values that have changed within a whole file are not
    noticed.

    Raises:
        LorunError: as `read_cube` does; a file is missing or damaged; nothing can be written to `root`/.cubes.
    """
    folder = root / _KEPT

    def opened() -> dict[str, np.ndarray]:
        found = {file: _opened(folder / f"{md5}.npy", _seal(md5, stored)) for file, md5 in files.items()}
        return {file: cube for file, cube in found.items() if cube is not None}

    cubes = opened()
    if len(cubes) < len(files):
        with _only_one(folder):
            for part in folder.glob(".*.part"):  # of a killed process
                part.unlink()
            there = opened()  # another process may have made some
            for file in shown([file for file in files if file not in there], f"{name}: converting"):
                cube = read_cube(root / name / file, stored, read_verified(root, name, file, files[file]))
                _keep(folder / f"{files[file]}.npy", cube, _seal(files[file], stored))
        cubes = opened()
    for file, md5 in files.items():
        if file not in cubes:
            raise LorunError(f"{folder / md5}.npy is not what was just written there: the disk or the folder changed")
    return [cubes[file] for file in files]


class FolderOfCubes(Mapping[str, np.ndarray]):
    """The cubes of any files, name -> (28, H, W): all are checked at once, and read again when they are looked at.

    So memory holds one of them.

    Raises:
        LorunError: as `read_cube` does.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self.paths = paths
        for path in shown(list(paths.values()), "checking"):
            read_cube(path)

    def __getitem__(self, name: str) -> Cube:
        return read_cube(self.paths[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)


def _stored_array(path: Path, stored: CubeFormat | None, data: bytes | None) -> tuple[np.ndarray, str]:
    """What a file holds, and how to speak of it."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return read_npy(path, data), f"{path}: the array"
    if suffix != ".mat":
        raise LorunError(f"{path} is no file of a cube: use {' or '.join(SUFFIXES)}")
    variables = mat_variables(path, data)
    wanted = stored.variable if stored is not None else None
    name = next((name for name in wanted or VARIABLES if name in variables), None)
    solid = [name for name, (shape, _) in variables.items() if len(shape) == 3]
    if name is None and wanted is None and len(solid) == 1:
        name = solid[0]
    if name is None:
        or_one = ", nor a single one of three dimensions" if wanted is None else ""
        choices = " or ".join(f"`{name}`" for name in wanted or VARIABLES)
        raise LorunError(f"{path}: holds no variable {choices}{or_one}, but {named(variables)}")
    return read_mat(path, name, data), f"{path}: variable `{name}`"


def _interpolated(bands: np.ndarray, grid: tuple[float, ...], wavelength: float) -> NDArray[np.float64]:
    """The band at a wavelength, (H, W), between its two neighbours in `grid`; one that is there is taken as it is."""
    above = bisect_left(grid, wavelength)
    upper = bands[above].astype(np.float64)
    if grid[above] == wavelength:
        return upper
    weight = (wavelength - grid[above - 1]) / (grid[above] - grid[above - 1])
    return (1 - weight) * bands[above - 1].astype(np.float64) + weight * upper


def _seal(md5: str, stored: CubeFormat | None) -> bytes:
    """What stands behind the array in a file that is kept."""
    said = None if stored is None else stored.model_dump(mode="json")
    return b"lorun cube " + md5_of_bytes(json.dumps([_VERSION, md5, said], sort_keys=True).encode()).encode()


def _keep(path: Path, cube: Cube, seal: bytes) -> None:
    def write(part: Path) -> None:
        with part.open("wb") as stream:
            np.save(stream, cube.astype("<f4", copy=False))
            stream.write(seal)

    write_atomically(path, write)


def _opened(path: Path, seal: bytes) -> np.ndarray | None:
    """The array of a kept file, or None where it is not the one that is looked for."""
    try:
        cube = np.load(path, mmap_mode="r", allow_pickle=False)
        with path.open("rb") as stream:
            size = stream.seek(-len(seal), os.SEEK_END) + len(seal)
            end = stream.read()
    except Exception:  # numpy raises almost anything on what is not its own
        return None
    if not isinstance(cube, np.memmap) or cube.dtype != np.dtype("<f4") or cube.ndim != 3 or len(cube) != 28:
        return None
    is_whole = size == cube.offset + cube.nbytes + len(seal)
    return cube if is_whole and cube.flags.c_contiguous and end == seal else None


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder of kept files, which ends with the process however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise LorunError(f"cannot write to {folder}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{folder}: another process is converting; waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
