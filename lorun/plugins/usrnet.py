"""USRNet in its two sizes, after Zhang, Van Gool and Timofte, "Deep Unfolding Network for Image Super-Resolution", CVPR
2020, section 4: data steps in closed form alternate with one denoiser; a small network predicts the constants of both
from noise level and scale."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorun.physics.blur_downsample import BlurDownsample, enlarged
from lorun.plugins.deblurring import needs_blur
from lorun.plugins.padding import pad_to_multiple

BLOCKS = 2  # residual blocks per resolution, each way
SMALLEST = 1e-6  # constant


class ResidualBlock(nn.Module):
    """h + conv(relu(conv(h))): (B, C, H, W) -> same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.res = nn.Sequential(conv3x3(width, width), nn.ReLU(), conv3x3(width, width))

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = h + self.res(h)
        return out


class ResUNet(nn.Module):
    """A denoiser of four resolutions with a noise level input: z (B, C, H, W) and beta () -> (B, C, H, W).

    Any size: edges are repeated to a multiple of 8, then cropped.
    """

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        sides = list(pairwise(widths))  # widths before and after each halving, from the full size on
        self.multiple = 2 ** len(sides)
        self.head = conv3x3(channels + 1, widths[0])
        self.down = nn.ModuleList(
            nn.Sequential(*blocks(fine), nn.Conv2d(fine, coarse, 2, stride=2, bias=False)) for fine, coarse in sides
        )
        self.body = nn.Sequential(*blocks(widths[-1]))
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(coarse, fine, 2, stride=2, bias=False), *blocks(fine))
            for fine, coarse in sides
        )
        self.tail = conv3x3(widths[0], channels)

    def forward(self, z: Tensor, beta: Tensor) -> Tensor:
        height, width = z.shape[2:]
        h = torch.cat([z, beta.to(z.dtype).expand(len(z), 1, height, width)], dim=1)
        h = self.head(pad_to_multiple(h, self.multiple))
        passed = [h]
        for down in self.down:
            passed.append(down(passed[-1]))
        h = self.body(passed[-1])
        for up in reversed(self.up):
            h = up(h + passed.pop())
        out: Tensor = self.tail(h + passed.pop())[..., :height, :width]
        return out


class Constants(nn.Module):
    """alpha of each data step and beta of each denoising, positive: noise (image units), scale -> 2 x (stages,)."""

    def __init__(self, stages: int, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Conv2d(2, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, 2 * stages, 1),
        )

    def forward(self, noise: float, scale: int) -> tuple[Tensor, Tensor]:
        weight: Any = self.mlp[0].weight
        known = weight.new_tensor([noise, scale])[None, :, None, None]
        alpha, beta = (F.softplus(self.mlp(known)) + SMALLEST).flatten().chunk(2)
        return alpha, beta


class USRNet(nn.Module):
    """x_0 is y enlarged by repetition;  z = argmin |A z - y|^2 + alpha_k |z - x|^2;  x = D(z; beta_k).

    Args:
        widths: features of the denoiser, from full to an eighth of the size.
        hidden: features of the constants' network.
    """

    def __init__(self, channels: int, stages: int, widths: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.stages = stages
        self.denoiser = ResUNet(channels, widths)
        self.constants = Constants(stages, hidden)

    unsupported = staticmethod(needs_blur)

    def forward(self, y: Tensor, physics: BlurDownsample) -> Tensor:
        x = enlarged(y, physics.scale, "nearest", physics.scene_of(*y.shape[2:]))
        with torch.autocast(y.device.type, enabled=False):
            alphas, betas = self.constants(physics.noise / 255, physics.scale)
        for alpha, beta in zip(alphas, betas, strict=True):
            with torch.autocast(y.device.type, enabled=False):
                z = physics.prox_l2(x.to(y.dtype), y, 1 / alpha)
            x = self.denoiser(z, beta)
        return x


def conv3x3(inside: int, outside: int) -> nn.Conv2d:
    """Zero padding, no bias."""
    return nn.Conv2d(inside, outside, 3, padding=1, bias=False)


def blocks(width: int) -> list[ResidualBlock]:
    """The blocks of one resolution on the way down or up."""
    return [ResidualBlock(width) for _ in range(BLOCKS)]
