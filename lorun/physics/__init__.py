"""Measurement models: linear operators A with their adjoint, subclasses of `deepinv.physics.LinearPhysics`."""

import torch

from lorun.config import BlockCSConfig
from lorun.physics.block_cs import BlockCS, gaussian_matrix, measurement_count, read_matrix

__all__ = ["BlockCS", "build_physics", "gaussian_matrix", "measurement_count", "read_matrix"]


def build_physics(config: BlockCSConfig, dtype: torch.dtype = torch.float32) -> BlockCS:
    """The operator that `config` describes, not yet fitted (see `BlockCS.fit`)."""
    pixels = config.block**2
    m = measurement_count(config.ratio, pixels, config.count)
    if config.matrix_file is not None:
        matrix = read_matrix(config.matrix_file, m, pixels)
    else:
        matrix = gaussian_matrix(m, pixels, config.matrix_seed)
    return BlockCS(
        matrix,
        learned=config.matrix == "learned",
        padding=config.padding,
        initial=config.initial,
        dtype=dtype,
    )
