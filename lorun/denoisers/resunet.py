"""The residual U-Net of USRNet (Zhang, Van Gool and Timofte, CVPR 2020), as a denoiser of the residual.

With its defaults, three channels and a noise map it has the 588,784 weights of USRNet-tiny's network.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, Self

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from lorun.denoisers.base import DenoiserSection, UShape, start_small
from lorun.denoisers.unet import ResidualBlock


class ResUNet(UShape):
    """z + u(z), u with one resolution for each of `widths` and `blocks` residual blocks per level and way, no bias.

    Halved by strided, doubled by transposed convolutions of 2x2. The skips are added before each doubling, and before
    the last layer.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int] = (16, 32, 64, 64),
        blocks: int = 2,
        noise_map: bool = False,
    ) -> None:
        super().__init__()
        self.noise_map = noise_map
        self.multiple = 2 ** (len(widths) - 1)
        sides = list(pairwise(widths))  # the widths on both sides of each halving, from the full resolution on
        self.head = nn.Conv2d(channels + noise_map, widths[0], 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(_blocks(fine, blocks) for fine, _ in sides)
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2, bias=False) for fine, coarse in sides)
        self.body = _blocks(widths[-1], blocks)
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2, bias=False) for fine, coarse in sides)
        self.decoder = nn.ModuleList(_blocks(fine, blocks) for fine, _ in sides)
        self.tail = nn.Conv2d(widths[0], channels, 3, padding=1, bias=False)
        start_small(self.tail)

    def residual(self, h: Tensor) -> Tensor:
        height, width = h.shape[2:]
        h = F.pad(h, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")
        h = self.head(h)
        skips = [h]
        for encode, down in zip(self.encoder, self.down, strict=True):
            h = down(encode(h))
            skips.append(h)
        h = self.body(h)
        for up, decode in zip(reversed(self.up), reversed(self.decoder), strict=True):
            h = decode(up(h + skips.pop()))
        out: Tensor = self.tail(h + skips.pop())
        return out[..., :height, :width]


class ResUNetConfig(DenoiserSection):
    """Residual U-Net of USRNet."""

    name: Literal["resunet"] = "resunet"
    widths: list[int] = Field(
        [16, 32, 64, 64], min_length=1, max_length=6, description="channels of each resolution, from the full one on"
    )
    blocks: int = Field(2, ge=1, description="residual blocks per level, each way")

    def build(self, channels: int, noise_map: bool = False) -> ResUNet:
        return ResUNet(channels, self.widths, self.blocks, noise_map)

    @classmethod
    def example(cls) -> Self:
        return cls(widths=[4, 6, 8], blocks=1)


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))
