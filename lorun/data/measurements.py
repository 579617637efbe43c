"""Measurements without ground truth, such as real captures, from a checksummed dataset.

A capture is divided by its largest value and multiplied by the `scale` of its dataset, as the test scripts of TSA-Net,
MST and PADUT do for the real captures of CASSI (`meas / meas.max() * 0.8`). Their networks were trained on sums over
bands times 2 / 28 (and 1.2), so the scale 0.8 is for an operator with `scaling: mst`. With plain sums the scenes come
out 14 times too dark.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lorun.data.arrays import read_mat
from lorun.data.checksums import read_manifest, read_verified, split_files
from lorun.data.registry import MeasurementFormat, read_registry
from lorun.errors import LorunError

Measured = NDArray[np.float32]


def holds_measurements(root: Path, name: str) -> bool:
    """Whether a dataset holds measurements instead of images, according to the registry."""
    return _format(root, name) is not None


def load_measurements(root: Path, name: str, split: str) -> dict[str, Measured]:
    """The measurements of a split: name -> float32 (1, H, W), scaled, in the order of their paths.

    Raises UnknownName for an unknown dataset or split; LorunError when the dataset holds no measurements, when a file
    is missing or damaged or lacks the variable, and when the variable is no matrix of finite numbers with a positive
    one.
    """
    stored = _format(root, name)
    manifest = read_manifest(root, name)
    found: dict[str, Measured] = {}
    for file in split_files(root, name, split, "measurement"):
        assert stored is not None  # `split_files` refuses other datasets
        path = root / name / file
        if path.stem in found:
            raise LorunError(f"{path} has the same name as another measurement of {name}")
        found[path.stem] = _scaled(path, read_verified(root, name, file, manifest[file]), stored)
    return found


def _format(root: Path, name: str) -> MeasurementFormat | None:
    entry = read_registry(root).get(name)
    return None if entry is None else entry.measurements


def _scaled(path: Path, data: bytes, stored: MeasurementFormat) -> Measured:
    name, values = read_mat(path, stored.variable, data)
    if values.ndim != 2:
        raise LorunError(f"{path}: variable `{name}` has shape {values.shape}, expected height x width")
    if values.max() <= 0:
        raise LorunError(f"{path}: variable `{name}` has no positive value: nothing was measured")
    values = values.astype(np.float64)
    return (values / values.max() * stored.scale).astype(np.float32)[None]
