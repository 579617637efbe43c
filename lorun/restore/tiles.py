"""An image in overlapping tiles, and the tiles blended into an image."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Tile(NamedTuple):
    """A rectangle of an image, pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: Tensor) -> Tensor:
        """Its part of an image (..., H, W), a view."""
        return image[..., self.top : self.top + self.height, self.left : self.left + self.width]


def tiles(size: tuple[int, int], sides: tuple[int, int], overlap: int, multiple: int = 1) -> list[Tile]:
    """Tiles of (at most) `sides` that cover an image of `size` (height, width) and overlap by at least `overlap`.

    Sides, overlap and places are multiples of `multiple`, as `size` is: sides are rounded down, but to one multiple at
    least, and the overlap up. It is at most half of a side.
    """
    (tops, height), (lefts, width) = (
        _starts(length, side, overlap, multiple) for length, side in zip(size, sides, strict=True)
    )
    return [Tile(top, left, height, width) for top in tops for left in lefts]


class Blend:
    """The mean of overlapping tiles (B, C, h, w), weighted less near their edges.

    Args:
        size: (height, width) of the image.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.total: Tensor | None = None
        self.weights = torch.zeros(size)

    def add(self, tile: Tile, values: Tensor) -> None:
        if self.total is None:
            self.total = torch.zeros(*values.shape[:2], *self.size)
        weights = _ramp(tile.height, self.size[0])[:, None] * _ramp(tile.width, self.size[1])
        tile.of(self.total).add_(weights * values)
        tile.of(self.weights).add_(weights)

    def image(self) -> Tensor:
        """The blended image (B, C, H, W). Every pixel must be in a tile."""
        assert self.total is not None
        return self.total / self.weights


def _starts(length: int, side: int, overlap: int, multiple: int) -> tuple[Sequence[int], int]:
    """Where the tiles of a line begin, and how long they are."""
    side = max(multiple, side // multiple * multiple)
    if length <= side:
        return [0], length
    step = max(multiple, side - min(math.ceil(overlap / multiple) * multiple, side // 2 // multiple * multiple))
    count = math.ceil((length - side) / step) + 1
    return [min(number * step, length - side) for number in range(count)], side


def _ramp(side: int, length: int) -> Tensor:
    """Weights of a line of a tile: 1 in the middle, less towards both ends, never 0; 1 where the tile is whole."""
    if side == length:
        return torch.ones(side)
    at = torch.arange(side) + 0.5
    return torch.minimum(at, side - at) / (side / 2)
