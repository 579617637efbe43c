"""ISTA-Net and its successors: soft thresholding in a learned transform domain, stage by stage.

Padding is reconstructed too and cropped at the end, so that all blocks are whole.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorun.physics.block_cs import BlockCS
from lorun.plugins.block_cs import back_projected_residual, cut, needs_block_cs
from lorun.unfolding import initial_reconstruction

STAGES = 9
FEATURES = 32


class Stage(nn.Module):
    """r = x + rho A^T(y - A x), then the proximal step of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.step_size = nn.Parameter(torch.full((1,), 0.5))
        self.threshold = nn.Parameter(torch.full((1,), 0.01))

    def forward(self, x: Tensor, y: Tensor, physics: BlockCS) -> Tensor:
        return self.proximal_step(x + self.step_size * back_projected_residual(x, y, physics))

    def proximal_step(self, r: Tensor) -> Tensor:
        raise NotImplementedError

    def soft(self, coefficients: Tensor) -> Tensor:
        """sign(c) max(|c| - theta, 0)."""
        return torch.sign(coefficients) * F.relu(coefficients.abs() - self.threshold)


class BlockwiseISTA(nn.Module):
    """All stages on each block separately: no convolution crosses the border of a block."""

    def __init__(self, stages: Iterable[Stage]) -> None:
        super().__init__()
        self.unrolled = nn.ModuleList(stages)
        self.stages = len(self.unrolled)

    unsupported = staticmethod(needs_block_cs)

    def forward(self, y: Tensor, physics: BlockCS) -> Tensor:
        rows, columns = y.shape[2:]
        whole = physics.whole_blocks()
        y = y.permute(0, 2, 3, 1).reshape(-1, y.shape[1], 1, 1)  # (B*H'*W', C*m, 1, 1)
        x = initial_reconstruction(y, whole)  # (B*H'*W', C, b, b)
        for stage in self.unrolled:
            x = stage(x, y, whole)
        return cut(_joined(x, rows, columns), physics)


def conv3x3(inside: int, outside: int) -> nn.Conv2d:
    """Zero padding, no bias, Xavier's normal initialisation."""
    conv = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
    nn.init.xavier_normal_(conv.weight)
    return conv


def two_convs(inside: int = FEATURES, out: int = FEATURES) -> nn.Sequential:
    """Convolution, ReLU, convolution."""
    return nn.Sequential(conv3x3(inside, FEATURES), nn.ReLU(), conv3x3(FEATURES, out))


def _joined(blocks: Tensor, rows: int, columns: int) -> Tensor:
    """(B*H'*W', C, b, b) -> (B, C, H'*b, W'*b)."""
    channels, side = blocks.shape[1:3]
    grid = blocks.reshape(-1, rows, columns, channels, side, side).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(-1, channels, rows * side, columns * side)
