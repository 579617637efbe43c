"""Measurement models: linear operators A with their adjoint, subclasses of `deepinv.physics.LinearPhysics`."""

from pathlib import Path

import torch
from torch import Tensor

from lorun.config import BlockCSConfig
from lorun.errors import LorunError
from lorun.physics.block_cs import BinaryBlockCS, BlockCS, gaussian_matrix, measurement_count, read_matrix

__all__ = ["BinaryBlockCS", "BlockCS", "build_physics", "gaussian_matrix", "measurement_count", "read_matrix"]


def build_physics(config: BlockCSConfig, dtype: torch.dtype = torch.float32) -> BlockCS:
    """The operator that `config` describes, not yet fitted (see `BlockCS.fit`).

    Raises:
        LorunError: a matrix file is missing, unreadable or of another shape.
    """
    pixels = config.block**2
    m = measurement_count(config.ratio, pixels, config.count)
    if config.matrix_file is not None:
        matrix = _read(config.matrix_file, "phi", (m, pixels))
    else:
        matrix = gaussian_matrix(m, pixels, config.matrix_seed)
    initialiser = None
    if config.initial_file is not None:
        initialiser = _read(config.initial_file, "Qinit", (pixels, m))
    kind = BinaryBlockCS if config.matrix == "learned_binary" else BlockCS
    return kind(
        matrix,
        learned=config.learned,
        padding=config.padding,
        initial=config.initial,
        initialiser=initialiser,
        dtype=dtype,
    )


def _read(path: Path, key: str, shape: tuple[int, int]) -> Tensor:
    matrix = read_matrix(path, key)
    if matrix.shape != shape:
        raise LorunError(f"{path}: `{key}` has shape {tuple(matrix.shape)}, the setting asks for {shape}")
    return matrix
