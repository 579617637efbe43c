"""AMP-Net with deblocking, written anew from Zhang, Liu, Liu, Wen and Zhu, "AMP-Net: Denoising-Based Deep Unfolding for
Compressive Image Sensing", IEEE TIP 2021, section III: approximate message passing, in which a network estimates the
error of each block, and another one the blocking artefacts of the whole image."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorun.physics.block_cs import BlockCS
from lorun.plugins.block_cs import back_projected_residual, cut, needs_block_cs

STAGES = 9
FEATURES = 32


class AMPStage(nn.Module):
    """u = x + N(x), block by block;  v = u + alpha A^T(y - A u);  x = v - D(v), across blocks.

    The paper's v = x + alpha A^T(y - A x) - (alpha A^T A - I) N(x) is the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.step_size = nn.Parameter(torch.ones(1))
        self.error = four_convs(channels)
        self.artefacts = four_convs(channels)

    def forward(self, x: Tensor, y: Tensor, physics: BlockCS) -> Tensor:
        u = x + on_blocks(self.error, x, physics.block)
        v = u + self.step_size * back_projected_residual(u, y, physics)
        out: Tensor = v - self.artefacts(v)
        return out


class Baseline(nn.Module):
    """Nine stages of 38,209 parameters (one channel), and the initial reconstruction's matrix, as large as Phi."""

    def __init__(self, physics: BlockCS, channels: int) -> None:
        super().__init__()
        self.stages = STAGES
        self.initialiser = nn.Parameter(physics.phi.detach().mT.clone())  # (n, m)
        self.unrolled = nn.ModuleList(AMPStage(channels) for _ in range(STAGES))

    unsupported = staticmethod(needs_block_cs)

    def forward(self, y: Tensor, physics: BlockCS) -> Tensor:
        whole = physics.whole_blocks()
        x = self.initial_reconstruction(y, whole)
        for stage in self.unrolled:
            x = stage(x, y, whole)
        return cut(x, physics)

    def initial_reconstruction(self, y: Tensor, physics: BlockCS) -> Tensor:
        """A matrix times the measurements of each block of each channel: (B, C*m, H', W') -> (B, C, H'*b, W'*b)."""
        batch, _, rows, columns = y.shape
        with torch.autocast(y.device.type, enabled=False):
            blocks = F.conv2d(y.reshape(-1, physics.m, rows, columns), self.initialiser[:, :, None, None])
        return F.pixel_shuffle(blocks.reshape(batch, -1, rows, columns), physics.block)


def four_convs(channels: int) -> nn.Sequential:
    """3x3 convolutions with ReLU in between, the last one without bias."""
    return nn.Sequential(
        nn.Conv2d(channels, FEATURES, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(FEATURES, FEATURES, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(FEATURES, FEATURES, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(FEATURES, channels, 3, padding=1, bias=False),
    )


def on_blocks(network: nn.Module, x: Tensor, side: int) -> Tensor:
    """A network on every block by itself: (B, C, H'*b, W'*b) -> same."""
    batch, channels, height, width = x.shape
    grid = x.reshape(batch, channels, height // side, side, width // side, side).permute(0, 2, 4, 1, 3, 5)
    blocks: Tensor = network(grid.reshape(-1, channels, side, side))  # (B*H'*W', C, b, b)
    return blocks.reshape(grid.shape).permute(0, 3, 1, 4, 2, 5).reshape(x.shape)
