"""A plain convolutional denoiser of the residual, after DnCNN (Zhang et al., TIP 2017), without batch norm."""

from itertools import pairwise
from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from lorun.denoisers.base import DenoiserSection, start_small, with_noise_map


class CNN(nn.Module):
    """`depth` 3x3 convolutions of `width` channels with ReLU between them; z (B, C, H, W) -> same shape, any size."""

    def __init__(self, channels: int, width: int = 32, depth: int = 6, noise_map: bool = False) -> None:
        super().__init__()
        self.noise_map = noise_map
        widths = [channels + noise_map, *[width] * (depth - 1), channels]
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in pairwise(widths))
        start_small(self.convs[-1])

    def forward(self, z: Tensor, sigma: Tensor | None = None) -> Tensor:
        h = with_noise_map(z, sigma, self.noise_map)
        for conv in self.convs[:-1]:
            h = torch.relu(conv(h))
        return z + self.convs[-1](h)


class CNNConfig(DenoiserSection):
    """Plain convolutional denoiser."""

    name: Literal["cnn"] = "cnn"
    width: int = Field(32, ge=1, description="channels")
    depth: int = Field(6, ge=2, description="3x3 convolutions, first and last included")

    def build(self, channels: int, noise_map: bool = False) -> CNN:
        return CNN(channels, self.width, self.depth, noise_map)

    @classmethod
    def example(cls) -> Self:
        return cls(width=4, depth=4)
