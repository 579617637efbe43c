"""One small U-Net for all bands of a spectral image. It denoises a band from its neighbours and the mean of all bands.

Its weights do not depend on the band, so a scene of 28 bands is 28 examples: it learns from few scenes. The mean of all
bands shows edges that are blurred in single bands.
"""

from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from lorun.denoisers.base import DenoiserSection, with_noise_map
from lorun.denoisers.unet import UNet


class Bandwise(UNet):
    """z (B, C, H, W) -> same shape, any size.

    Band c gets a residual from the bands c - n to c + n, n being `neighbours`, and the mean of all bands. At the ends
    of the spectrum, the first and the last band are repeated.
    """

    def __init__(self, neighbours: int, width: int, levels: int, blocks: int, noise_map: bool = False) -> None:
        super().__init__(2 * neighbours + 2, width, levels, blocks, noise_map, out_channels=1)
        self.neighbours = neighbours

    def forward(self, z: Tensor, sigma: Tensor | None = None) -> Tensor:
        batch, bands, height, width = z.shape
        places = torch.arange(bands, device=z.device)[:, None]
        nearby = (places + torch.arange(-self.neighbours, self.neighbours + 1, device=z.device)).clamp(0, bands - 1)
        mean = z.mean(1, keepdim=True).expand(-1, bands, -1, -1)
        inputs = torch.cat([z[:, nearby], mean[:, :, None]], dim=2).flatten(0, 1)  # (B * C, 2 n + 2, H, W)
        if sigma is not None and sigma.numel() > 1:
            sigma = sigma.repeat_interleave(bands, dim=0)
        return z + self.residual(with_noise_map(inputs, sigma, self.noise_map)).view(batch, bands, height, width)


class BandwiseConfig(DenoiserSection):
    """One residual U-Net for all bands."""

    name: Literal["bandwise"] = "bandwise"
    width: int = Field(8, ge=1, description="channels at full resolution, doubled at each level")
    levels: int = Field(3, ge=1, le=6, description="resolutions, the full one included")
    blocks: int = Field(1, ge=1, description="residual blocks per level, each way")
    neighbours: int = Field(2, ge=0, description="bands on each side of a band that it is denoised from")

    def build(self, channels: int, noise_map: bool = False) -> Bandwise:
        return Bandwise(self.neighbours, self.width, self.levels, self.blocks, noise_map)

    @classmethod
    def example(cls) -> Self:
        return cls(width=4, levels=2)
