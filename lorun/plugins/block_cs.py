"""Compressed sensing by blocks: which operators those baselines support, the data term, and cropping."""

import torch
from torch import Tensor

from lorun.physics.block_cs import BlockCS


def needs_block_cs(physics: object, channels: int) -> str | None:
    """The reason why a network that works on blocks cannot be used with an operator, or None."""
    return None if isinstance(physics, BlockCS) else f"it reconstructs blocks, and {type(physics).__name__} has none"


def back_projected_residual(x: Tensor, y: Tensor, physics: BlockCS) -> Tensor:
    """A^T(y - A x), the negative gradient of the data term, never in half precision."""
    with torch.autocast(y.device.type, enabled=False):
        return physics.A_adjoint(y - physics.A(x.to(y.dtype)))


def cut(x: Tensor, physics: BlockCS) -> Tensor:
    """Crop whole blocks (B, C, H'*b, W'*b) to the size that the operator is bound to, if it is bound."""
    return x if physics.size is None else x[..., : physics.size[0], : physics.size[1]]
