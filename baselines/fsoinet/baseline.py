"""FSOINet, written anew from Chen, Yang and Yang, "FSOINet: Feature-Space Optimization-Inspired Network for Image
Compressive Sensing", ICASSP 2022: gradient descent and proximal mapping on sixteen feature maps instead of the image,
so that nothing is lost between the stages; two scales in the proximal mapping."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorun.physics.block_cs import BlockCS
from lorun.plugins.block_cs import back_projected_residual, cut, needs_block_cs
from lorun.plugins.full_precision import ImageConv
from lorun.unfolding import initial_reconstruction

STAGES = 16
FEATURES = 16


class ResidualBlock(nn.Module):
    """h + conv(relu(conv(h))), 3x3."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = h + self.convs(h)
        return out


class GradientDescent(nn.Module):
    """h + R(F(A^T(y - A I(h)))), where I makes an image of features and F features of an image; no step size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_image = ImageConv(FEATURES, channels, 3, padding=1)
        self.to_features = ImageConv(channels, FEATURES, 3, padding=1)
        self.refine = ResidualBlock(FEATURES)

    def forward(self, h: Tensor, y: Tensor, physics: BlockCS) -> Tensor:
        correction = back_projected_residual(self.to_image(h), y, physics)  # (B, C, H, W)
        out: Tensor = h + self.refine(self.to_features(correction))
        return out


class ProximalMapping(nn.Module):
    """A residual block at full size and one at half size with twice the features, merged by a 1x1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = ResidualBlock(FEATURES)
        self.coarse = nn.Sequential(
            nn.Conv2d(FEATURES, 2 * FEATURES, 3, stride=2, padding=1), ResidualBlock(2 * FEATURES)
        )
        self.merge = ImageConv(3 * FEATURES, FEATURES, 1)

    def forward(self, h: Tensor) -> Tensor:
        coarse = F.interpolate(self.coarse(h), size=h.shape[2:], mode="bilinear")  # (B, 2F, H/2, W/2) -> (B, 2F, H, W)
        out: Tensor = self.merge(torch.cat([self.fine(h), coarse], dim=1))
        return out


class FSOIStage(nn.Module):
    """Features (B, F, H, W) -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gradient_descent = GradientDescent(channels)
        self.proximal_mapping = ProximalMapping()

    def forward(self, h: Tensor, y: Tensor, physics: BlockCS) -> Tensor:
        out: Tensor = self.proximal_mapping(self.gradient_descent(h, y, physics))
        return out


class Baseline(nn.Module):
    """Sixteen stages of 33,505 parameters each with one channel."""

    def __init__(self, physics: BlockCS, channels: int) -> None:
        super().__init__()
        self.stages = STAGES
        self.head = ImageConv(channels, FEATURES, 3, padding=1)
        self.unrolled = nn.ModuleList(FSOIStage(channels) for _ in range(STAGES))
        self.tail = ImageConv(FEATURES, channels, 1)

    unsupported = staticmethod(needs_block_cs)

    def forward(self, y: Tensor, physics: BlockCS) -> Tensor:
        whole = physics.whole_blocks()
        h = self.head(initial_reconstruction(y, whole))  # (B, C, H'*b, W'*b) -> (B, F, H'*b, W'*b)
        for stage in self.unrolled:
            h = stage(h, y, whole)
        return cut(self.tail(h), physics)
