"""What ISTA-Net and its successors have in common: soft thresholding in a learned transform domain, and whole blocks.

What an image was padded with is reconstructed too, and cut off only at the end.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorun.physics.block_cs import BlockCS
from lorun.plugins.full_precision import back_projected_residual
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
    """Stages on every block by itself: no convolution sees across a block's border."""

    def __init__(self, stages: Iterable[Stage]) -> None:
        super().__init__()
        self.unrolled = nn.ModuleList(stages)
        self.stages = len(self.unrolled)

    @classmethod
    def unsupported(cls, physics: object, channels: int) -> str | None:
        return needs_blocks(physics)

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


def needs_blocks(physics: object) -> str | None:
    """The reason why a network that works on blocks cannot be used with an operator, or None."""
    return None if isinstance(physics, BlockCS) else f"it reconstructs blocks, and {type(physics).__name__} has none"


def cut(x: Tensor, physics: BlockCS) -> Tensor:
    """Whole blocks (B, C, H'*b, W'*b), cut to the size that the operator is bound to, if it is to one."""
    return x if physics.size is None else x[..., : physics.size[0], : physics.size[1]]


def _joined(blocks: Tensor, rows: int, columns: int) -> Tensor:
    """(B*H'*W', C, b, b) -> (B, C, H'*b, W'*b)."""
    channels, side = blocks.shape[1:3]
    grid = blocks.reshape(-1, rows, columns, channels, side, side).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(-1, channels, rows * side, columns * side)
