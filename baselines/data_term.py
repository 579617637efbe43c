"""What unfolding networks ask of the operator at every stage."""

import torch
from torch import Tensor

from lorun.physics import BlockCS


def back_projected_residual(x: Tensor, y: Tensor, physics: BlockCS) -> Tensor:
    """A^T(y - A x), the negative gradient of the data term, never in half precision."""
    with torch.autocast(y.device.type, enabled=False):
        return physics.A_adjoint(y - physics.A(x.to(y.dtype)))
