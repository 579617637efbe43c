"""Measurements without a truth, such as real captures: read from a checksummed dataset, checked and scaled.

A capture is divided by its largest value and multiplied by the `scale` of its dataset, as the test scripts of TSA-Net,
MST and PADUT do with the real ones of CASSI (`meas / meas.max() * 0.8`). That these scripts clip them to [0, 1] before
changes nothing: they lie there. Their networks were trained on sums over bands times 2 / 28 (and 1.2): 0.8 is in that
unit, which the operator has with `scaling: mst`; with a plain sum the scenes come out 14 times as dark.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lorun.data.arrays import flaw, mat_variables, named, read_mat
from lorun.data.checksums import read_manifest, read_verified, split_files
from lorun.data.registry import MeasurementFormat, read_registry
from lorun.errors import LorunError

Measured = NDArray[np.float32]


def holds_measurements(root: Path, name: str) -> bool:
    """Whether the registry says that a dataset holds measurements instead of images."""
    return _format(root, name) is not None


def load_measurements(root: Path, name: str, split: str) -> dict[str, Measured]:
    """The measurements of a split: name -> float32 (1, H, W), scaled, in order of their paths.

    Each file is checked against the manifest before it is read.

    Raises UnknownName for an unknown dataset or split, LorunError when the dataset holds no measurements; when a file
    is missing, damaged or has no such variable; when that is no matrix of finite numbers, or none of them is positive.
    """
    stored = _format(root, name)
    manifest = read_manifest(root, name)
    found: dict[str, Measured] = {}
    for file in split_files(root, name, split, "measurement"):
        assert stored is not None  # `split_files` refuses a dataset of anything else
        path = root / name / file
        if path.stem in found:
            raise LorunError(f"{path} has the same name as another measurement of {name}")
        found[path.stem] = _scaled(path, read_verified(root, name, file, manifest[file]), stored)
    return found


def _format(root: Path, name: str) -> MeasurementFormat | None:
    entry = read_registry(root).get(name)
    return None if entry is None else entry.measurements


def _scaled(path: Path, data: bytes, stored: MeasurementFormat) -> Measured:
    variables = mat_variables(path, data)
    name = next((name for name in stored.variable if name in variables), None)
    if name is None:
        wanted = " or ".join(f"`{name}`" for name in stored.variable)
        raise LorunError(f"{path}: holds no variable {wanted}, but {named(variables)}")
    values = read_mat(path, name, data)
    wrong = flaw(values)
    if wrong is None and values.ndim != 2:
        wrong = f"has shape {values.shape}, expected height x width"
    if wrong is None and values.max() <= 0:
        wrong = "has no positive value: nothing was measured"
    if wrong is not None:
        raise LorunError(f"{path}: variable `{name}` {wrong}")
    values = values.astype(np.float64)
    return (values / values.max() * stored.scale).astype(np.float32)[None]
