"""Restore one picture: measure it, or take its measurement, and reconstruct it in tiles."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lorun.errors import LorunError
from lorun.models import Model
from lorun.physics import Operator
from lorun.physics.blur_downsample import BlurDownsample
from lorun.physics.cassi import CASSI
from lorun.physics.denoising import Denoising
from lorun.restore.tiles import Blend, Tile, tiles
from lorun.unfolding import initial_reconstruction

Advance = Callable[[float], object]

_BORDER = 8  # pixels of a measurement beyond the reach of the kernel


class Restored(NamedTuple):
    """A restored image (B, C, H, W) on the CPU.

    Attributes:
        estimate: not clipped.
        initial: what the measurement alone gives, the initial reconstruction.
    """

    estimate: Tensor
    initial: Tensor

    def part(self, place: Tile) -> "Restored":
        """A part of the image."""
        return Restored(place.of(self.estimate), place.of(self.initial))


@dataclass
class Restorer:
    """A model with an operator, both on a device.

    Attributes:
        physics: for one kernel, not bound to a size.
        side: of the tiles of larger pictures, pixels of the restored image; 0 for none where the operator can do
            without.
        overlap: of tiles at least, pixels.
    """

    model: Model
    physics: Operator
    device: torch.device
    side: int = 1024
    overlap: int = 64

    @torch.inference_mode()
    def simulated(self, images: Tensor, advance: Advance = lambda share: None) -> Restored:
        """Measure images (B, C, H, W) in [0, 1] of any size and restore them.

        They are extended at the right and bottom, by their last pixels, to whole blocks of the operator, and cropped
        again. Each tile is measured by itself. `advance` is called with the share of the tiles that is done.
        """
        height, width = images.shape[2:]
        multiple = math.lcm(self.physics.smallest, self.physics.decimation)
        whole = F.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        size = (whole.shape[2], whole.shape[3])
        parts = tiles(size, self._sides(size), self.overlap, multiple)

        def measured(number: int, tile: Tile) -> tuple[Tensor, Operator]:
            physics = self.physics.at(tile.height, tile.width)
            seed = getattr(physics, "noise_seed", None)
            if seed is not None:
                physics = physics.bound(noise_seed=seed + number)
            return physics(tile.of(whole).to(self.device)), physics

        return self._restored(parts, size, measured, advance).part(Tile(0, 0, height, width))

    @torch.inference_mode()
    def measured(self, y: Tensor, advance: Advance = lambda share: None) -> Restored:
        """Restore images from real measurements y (B, C', H', W'). `advance` as in `simulated`.

        Raises:
            LorunError: measurements of this operator cannot be taken, or have another shape.
        """
        if isinstance(self.physics, BlurDownsample | Denoising):
            return self._from_picture(y, advance)
        if isinstance(self.physics, CASSI):
            return self._from_capture(y, advance)
        raise LorunError(
            f"{type(self.physics).__name__}: real measurements are taken for super-resolution, deblurring, denoising "
            "and spectral imaging only"
        )

    def _from_picture(self, y: Tensor, advance: Advance) -> Restored:
        """From a degraded picture. It does not wrap around as the operator does: it is extended by its last pixels on
        each side, beyond the reach of the kernel, and the image is cropped again."""
        scale, border = self.physics.decimation, 0
        if isinstance(self.physics, BlurDownsample):
            border = -(-max(self.physics.kernel.shape) // scale) + _BORDER
        whole = F.pad(y, (border,) * 4, mode="replicate")
        low = (whole.shape[2], whole.shape[3])
        size = (low[0] * scale, low[1] * scale)
        # Where a tile ends, it does not wrap around either, so that the overlap must be as wide.
        overlap = max(self.overlap, 2 * border * scale)
        sides = tuple(max(side, 2 * overlap) for side in self._sides(size))
        parts = tiles(size, (sides[0], sides[1]), overlap, scale)

        def measured(number: int, tile: Tile) -> tuple[Tensor, Operator]:
            part = Tile(*(length // scale for length in tile))
            return part.of(whole).to(self.device), self.physics.at(tile.height, tile.width)

        edge = border * scale
        inside = Tile(edge, edge, size[0] - 2 * edge, size[1] - 2 * edge)
        return self._restored(parts, size, measured, advance).part(inside)

    def _from_capture(self, y: Tensor, advance: Advance) -> Restored:
        """From a snapshot of all bands. Its rows were measured independently of each other, its columns were not: tiles
        are as wide as the scene."""
        assert isinstance(self.physics, CASSI)
        physics = self.physics
        size = physics.scene_of(y.shape[2], y.shape[3])
        if size[1] < 1:
            raise LorunError(
                f"a capture of {physics.bands} bands is wider than {physics.dispersion} pixels, this is {y.shape[3]}"
            )
        physics.at(*size)  # raises where the mask is smaller
        parts = tiles(size, (self._sides(size)[0], size[1]), self.overlap)

        def measured(number: int, tile: Tile) -> tuple[Tensor, Operator]:
            rows = Tile(tile.top, 0, tile.height, y.shape[3])
            return rows.of(y).to(self.device), physics.bound(size=(tile.height, tile.width), corner=(tile.top, 0))

        return self._restored(parts, size, measured, advance)

    def _restored(
        self,
        parts: list[Tile],
        size: tuple[int, int],
        measured: Callable[[int, Tile], tuple[Tensor, Operator]],
        advance: Advance,
    ) -> Restored:
        estimate, initial = Blend(size), Blend(size)
        for number, tile in enumerate(parts):
            y, physics = measured(number, tile)
            initial.add(tile, initial_reconstruction(y, physics).float().cpu())
            estimate.add(tile, self.model(y, physics).float().cpu())
            advance((number + 1) / len(parts))
        return Restored(estimate.image(), initial.image())

    def _sides(self, size: tuple[int, int]) -> tuple[int, int]:
        """The largest tile, for an image of a size."""
        height, width = (min(self.side, length) if self.side else length for length in size)
        if isinstance(self.physics, CASSI):
            rows, columns = self.physics.mask.shape
            return min(height, rows), min(width, columns)
        return height, width
