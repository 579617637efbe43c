"""GAP-Net, written anew from Meng, Jalali and Yuan, "GAP-net for Snapshot Compressive Imaging", 2020: projections on
the measurement, each followed by a small U-Net of its own."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorun.physics.cassi import CASSI
from lorun.plugins.cassi import needs_cassi, projected
from lorun.plugins.padding import pad_to_multiple

STAGES = 9
WIDTHS = (32, 64, 128)  # from full to a quarter of the size
MULTIPLE = 2 ** (len(WIDTHS) - 1)


class UNet(nn.Module):
    """x + tanh(u(x)), u being a U-Net of three resolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        full, half, quarter = WIDTHS
        self.encode_full = two_convs(channels, full)
        self.encode_half = two_convs(full, half)
        self.bottom = two_convs(half, quarter)
        self.enlarge_quarter = nn.ConvTranspose2d(quarter, half, 2, stride=2)
        self.decode_half = two_convs(2 * half, half)
        self.enlarge_half = nn.ConvTranspose2d(half, full, 2, stride=2)
        self.decode_full = two_convs(2 * full, full)
        self.to_bands = nn.Conv2d(full, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        full = self.encode_full(pad_to_multiple(x, MULTIPLE))
        half = self.encode_half(F.max_pool2d(full, 2))
        h = self.bottom(F.max_pool2d(half, 2))
        h = self.decode_half(torch.cat([F.relu(self.enlarge_quarter(h)), half], dim=1))
        h = self.decode_full(torch.cat([F.relu(self.enlarge_half(h)), full], dim=1))
        return x + torch.tanh(self.to_bands(h))[..., :height, :width]


class Baseline(nn.Module):
    """Nine stages of 474,620 parameters each with 28 bands.

    The first one starts from A^T (A A^T)^-1 y, to which any initial reconstruction A^T v is projected.
    """

    def __init__(self, physics: CASSI, channels: int, stages: int = STAGES) -> None:
        super().__init__()
        self.stages = stages
        self.unrolled = nn.ModuleList(UNet(channels) for _ in range(stages))

    unsupported = staticmethod(needs_cassi)

    def forward(self, y: Tensor, physics: CASSI) -> Tensor:
        x = torch.zeros_like(physics.shift_back(y))
        for stage in self.unrolled:
            x = stage(projected(x, y, physics))
        return x


def two_convs(inside: int, outside: int) -> nn.Sequential:
    """3x3 convolutions, each with ReLU."""
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1), nn.ReLU(), nn.Conv2d(outside, outside, 3, padding=1), nn.ReLU()
    )
