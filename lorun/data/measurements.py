"""Measurements without ground truth, such as real captures, from a checksummed dataset.

A capture is divided by its largest value and multiplied by the `scale` of its dataset, as the test scripts of TSA-Net,
MST and PADUT do for the real captures of CASSI (`meas / meas.max() * 0.8`). Their networks were trained on sums over
bands times 2 / 28 (and 1.2), so the scale 0.8 is for an operator with `scaling: mst`. With plain sums the scenes come
out 14 times too dark.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lorun.data.arrays import read_array
from lorun.data.checksums import read_verified, split_files, unique_names
from lorun.data.registry import MeasurementFormat, entry_of
from lorun.errors import LorunError

Measured = NDArray[np.float32]


def holds_measurements(root: Path, name: str) -> bool:
    """Whether a dataset holds measurements instead of images, according to the registry."""
    return entry_of(root, name).measurements is not None


def load_measurements(root: Path, name: str, split: str) -> dict[str, Measured]:
    """The measurements of a split: name -> float32 (1, H, W), scaled, in the order of their paths.

    Raises UnknownName for an unknown dataset or split; LorunError when the dataset holds no measurements, when a file
    is missing or damaged or lacks the variable, and when the variable is no matrix of finite numbers with a positive
    one.
    """
    files = split_files(root, name, split, "measurement")
    stored = entry_of(root, name).measurements
    if stored is None:
        raise LorunError(f"dataset {name!r}: the registry does not say how its measurements are stored")
    return {
        image: _scaled(root / name / file, read_verified(root, name, file, files[file]), stored)
        for image, file in unique_names(files).items()
    }


def _scaled(path: Path, data: bytes, stored: MeasurementFormat) -> Measured:
    values, what = read_array(path, data, stored.variable)
    if values.ndim != 2:
        raise LorunError(f"{what} has shape {values.shape}, expected height x width")
    if values.max() <= 0:
        raise LorunError(f"{what} has no positive value: nothing was measured")
    values = values.astype(np.float64)
    return (values / values.max() * stored.scale).astype(np.float32)[None]
