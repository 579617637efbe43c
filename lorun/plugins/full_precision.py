"""What networks never compute in half precision: the data term, and layers that the image itself passes."""

import torch
from torch import Tensor, nn

from lorun.physics.block_cs import BlockCS


def back_projected_residual(x: Tensor, y: Tensor, physics: BlockCS) -> Tensor:
    """A^T(y - A x), the negative gradient of the data term."""
    with torch.autocast(y.device.type, enabled=False):
        return physics.A_adjoint(y - physics.A(x.to(y.dtype)))


class ImageConv(nn.Conv2d):
    """A convolution that the image, or the features that stand for it, has no way around."""

    def forward(self, h: Tensor) -> Tensor:
        with torch.autocast(h.device.type, enabled=False):
            return super().forward(h.to(self.weight.dtype))
