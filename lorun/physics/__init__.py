"""Measurement models: linear operators A with their adjoint, subclasses of `deepinv.physics.LinearPhysics`."""

import math
from pathlib import Path

import torch
from torch import Tensor

from lorun import seeds
from lorun.config import BlockCSConfig, BlurDownsampleConfig, CASSIConfig, DenoisingConfig, PhysicsConfig
from lorun.errors import LorunError
from lorun.physics.base import Operator
from lorun.physics.block_cs import BinaryBlockCS, BlockCS, gaussian_matrix, measurement_count
from lorun.physics.blur import BlurDownsample
from lorun.physics.cassi import CASSI, random_mask
from lorun.physics.denoising import Denoising
from lorun.physics.kernels import bicubic_kernel, drawn_kernel, gaussian_kernel, read_kernels
from lorun.physics.matrices import read_matrix

__all__ = [
    "CASSI",
    "BinaryBlockCS",
    "BlockCS",
    "BlurDownsample",
    "Denoising",
    "Operator",
    "build_physics",
    "gaussian_matrix",
    "measurement_count",
    "random_mask",
    "read_matrix",
]


def build_physics(config: PhysicsConfig, dtype: torch.dtype = torch.float32) -> Operator:
    """The operator that `config` describes, not yet fitted (see `Operator.fit`).

    Raises:
        LorunError: a file that it is made from is missing, unreadable or of another shape.
    """
    if isinstance(config, CASSIConfig):
        return _build_cassi(config, dtype)
    if isinstance(config, BlurDownsampleConfig):
        return _build_blur(config, dtype)
    if isinstance(config, DenoisingConfig):
        return Denoising(**config.model_dump(exclude={"name", "noise_map"}))
    return _build_block_cs(config, dtype)


def _build_block_cs(config: BlockCSConfig, dtype: torch.dtype) -> BlockCS:
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
        initial_blocks=config.initial_blocks,
        dtype=dtype,
    )


def _build_cassi(config: CASSIConfig, dtype: torch.dtype) -> CASSI:
    shape = (config.mask_side, config.mask_side)
    if config.mask_file is not None:
        mask = _read(config.mask_file, "mask", shape, transmission=True)
    else:
        mask = random_mask(*shape, config.mask_seed)
    said = config.model_dump(exclude={"name", "mask", "mask_file", "mask_seed", "mask_side"})
    return CASSI(mask, dtype=dtype, **said)


def _build_blur(config: BlurDownsampleConfig, dtype: torch.dtype) -> BlurDownsample:
    if config.kernels_file is not None:
        held = read_kernels(config.kernels_file)
        last = max(config.scored)
        if last > len(held):
            raise LorunError(f"{config.kernels_file}: holds {len(held)} kernels, `scored` names the number {last}")
        kernels = [held[number - 1] for number in config.scored]
    elif config.kernels == "drawn":
        kernels = [drawn_kernel(config.scale, seeds.generator(number, seeds.KERNELS)) for number in config.scored]
    elif config.kernels == "bicubic":
        kernels = [bicubic_kernel(config.scale)]
    else:
        kernels = [gaussian_kernel(2 * math.ceil(4 * config.width) + 1, (config.width, config.width), 0.0)]
    said = config.model_dump(exclude={"name", "kernels", "kernels_file", "scored", "width"})
    return BlurDownsample(kernels, degradations=config.degradations, dtype=dtype, **said)


def _read(path: Path, key: str, shape: tuple[int, int], transmission: bool = False) -> Tensor:
    matrix = read_matrix(path, key, transmission=transmission)
    if matrix.shape != shape:
        raise LorunError(f"{path}: `{key}` has shape {tuple(matrix.shape)}, the setting asks for {shape}")
    return matrix
