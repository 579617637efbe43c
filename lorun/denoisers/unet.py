"""A U-Net denoiser of the residual, after DRUNet (Zhang et al., TPAMI 2021), without transposed convolutions.

peft's LoRA cannot adapt `ConvTranspose2d`, so upsampling is a 1x1 convolution followed by a pixel shuffle.
"""

from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from lorun.denoisers.base import DenoiserSection, UShape, start_small


class ResidualBlock(nn.Module):
    """h + conv(relu(conv(h))), 3x3, without bias: (B, C, H, W) -> same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.second(torch.relu(self.first(h)))


class UNet(UShape):
    """Residual U-Net: `levels` resolutions, width doubled at each, `blocks` residual blocks per level and way.

    z (B, C, H, W) -> same shape, any size: edges are replicated to a multiple of 2**(levels - 1), then cropped.
    `out_channels` are those of the residual, by default `channels`.
    """

    def __init__(
        self,
        channels: int,
        width: int = 32,
        levels: int = 3,
        blocks: int = 2,
        noise_map: bool = False,
        out_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.noise_map = noise_map
        self.multiple = 2 ** (levels - 1)
        widths = [width * 2**level for level in range(levels)]
        self.head = nn.Conv2d(channels + noise_map, width, 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(_blocks(w, blocks) for w in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, stride=2, bias=False) for w in widths[:-1])
        self.body = _blocks(widths[-1], blocks)
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * w, 4 * w, 1, bias=False), nn.PixelShuffle(2)) for w in reversed(widths[:-1])
        )
        self.decoder = nn.ModuleList(_blocks(w, blocks) for w in reversed(widths[:-1]))
        self.tail = nn.Conv2d(width, out_channels or channels, 3, padding=1, bias=False)
        start_small(self.tail)


class UNetConfig(DenoiserSection):
    """Residual U-Net."""

    name: Literal["unet"] = "unet"
    width: int = Field(32, ge=1, description="channels at full resolution, doubled at each level")
    levels: int = Field(3, ge=1, le=6, description="resolutions, the full one included")
    blocks: int = Field(2, ge=1, description="residual blocks per level, each way")

    def build(self, channels: int, noise_map: bool = False) -> UNet:
        return UNet(channels, self.width, self.levels, self.blocks, noise_map)

    @classmethod
    def example(cls) -> Self:
        return cls(width=4, levels=3, blocks=1)


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))
