"""Networks that downsample, on images of any size."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until both sides are a multiple: (B, C, H, W) -> (B, C, H', W')."""
    height, width = x.shape[2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")


class Padded(nn.Module):
    """A module from image to image that needs sides of a `multiple`: pads its input and crops its output."""

    def __init__(self, module: nn.Module, multiple: int) -> None:
        super().__init__()
        self.module = module
        self.multiple = multiple

    def forward(self, x: Tensor, *more: Any) -> Tensor:
        """(B, C, H, W) -> same; the module's further arguments are passed on."""
        height, width = x.shape[2:]
        estimate: Tensor = self.module(pad_to_multiple(x, self.multiple), *more)
        return estimate[..., :height, :width]
