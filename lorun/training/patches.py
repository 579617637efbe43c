"""Training patches, drawn at random from images: a batch is a function of the seed and the step."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from lorun import seeds
from lorun.errors import LorunError

_AHEAD = 4  # batches prepared while the device computes
_CHUNK = 2048  # blocks


class PatchStream:
    """Batches of patches: `stream.batch(step)` is (B, C, patch, patch), float32 in [0, 1].

    Images are drawn in proportion to their pixels, positions uniformly, then one of the eight flips and rotations.

    Args:
        images: name -> uint8 (C, H, W), or float (C, H, W) in [0, 1].
        patch: side, pixels.
        batch: number of patches.
        seed: of the run.
        share: the patches of each batch to return, for one process of several.
        mosaic: whether the second half of each batch (rounded down) consists of 2 x 2 mosaics of independent crops of
            half the side.

    Raises:
        LorunError: there are no images, an image is smaller than a patch, or the side of mosaics is odd.
    """

    def __init__(
        self,
        images: Mapping[str, np.ndarray],
        patch: int,
        batch: int,
        seed: int,
        share: slice = slice(None),
        mosaic: bool = False,
    ) -> None:
        if not images:
            raise LorunError("no training images")
        if mosaic and patch % 2:
            raise LorunError(f"`patch` (={patch}) must be even with `mosaic: true`, whose pieces have half its side")
        for name, image in images.items():
            height, width = image.shape[1:]
            if min(height, width) < patch:
                raise LorunError(f"training image {name} is {height} x {width}, smaller than a patch of {patch} pixels")
        self.images = list(images.values())
        sizes = np.array([image.shape[1] * image.shape[2] for image in self.images], dtype=float)
        self.weights = sizes / sizes.sum()
        self.patch = patch
        self.size = batch
        self.seed = seed
        self.share = share
        self.mosaics = batch // 2 if mosaic else 0

    def batch(self, step: int) -> Tensor:
        random = seeds.generator(self.seed, seeds.PATCHES, step)
        whole = self.size - self.mosaics
        chosen = random.choice(len(self.images), size=whole + 4 * self.mosaics, p=self.weights)
        sides = [self.patch] * whole + [self.patch // 2] * 4 * self.mosaics
        crops = [
            _turn(_crop(self.images[i], side, random), int(random.integers(8)))
            for i, side in zip(chosen, sides, strict=True)
        ]
        pieces = [*([crop] for crop in crops[:whole]), *(crops[at : at + 4] for at in range(whole, len(crops), 4))]
        return in_unit_range(torch.from_numpy(np.stack([_joined(crops) for crops in pieces[self.share]])))

    def batches(self, first: int, last: int, pin: bool = False) -> Iterator[Tensor]:
        """The batches of steps `first` to `last` - 1, prepared in a thread ahead of their use."""

        def make(step: int) -> Tensor:
            batch = self.batch(step)
            return batch.pin_memory() if pin else batch

        with ThreadPoolExecutor(1, thread_name_prefix="patches") as thread:
            pending = [thread.submit(make, step) for step in range(first, min(first + _AHEAD, last))]
            for step in range(first, last):
                yield pending.pop(0).result()
                if step + _AHEAD < last:
                    pending.append(thread.submit(make, step + _AHEAD))


def random_blocks(images: Mapping[str, np.ndarray], block: int, count: int, seed: int) -> Iterator[Tensor]:
    """`count` random blocks in chunks (N, block**2) of float64 in [0, 1]; each channel of an image is one block.

    Raises:
        LorunError: an image is smaller than a block.
    """
    stream = PatchStream(images, block, 1, seed)
    random = seeds.generator(seed, seeds.INITIAL_BLOCKS)
    chosen = random.choice(len(stream.images), size=count, p=stream.weights)
    for start in range(0, count, _CHUNK):
        crops = [_crop(stream.images[i], block, random) for i in chosen[start : start + _CHUNK]]
        yield in_unit_range(torch.from_numpy(np.concatenate(crops)).reshape(-1, block**2), torch.float64)


def in_unit_range(pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Pixels as floats: bytes are divided by 255, floats (in [0, 1] already) only change their type."""
    return pixels.to(dtype).div_(255) if pixels.dtype == torch.uint8 else pixels.to(dtype)


def _crop(image: np.ndarray, side: int, random: np.random.Generator) -> np.ndarray:
    top = random.integers(image.shape[1] - side + 1)
    left = random.integers(image.shape[2] - side + 1)
    return image[:, top : top + side, left : left + side]


def _turn(patch: np.ndarray, which: int) -> np.ndarray:
    patch = np.rot90(patch, which % 4, axes=(1, 2))
    return patch[:, :, ::-1] if which >= 4 else patch


def _joined(pieces: list[np.ndarray]) -> np.ndarray:
    """The crop alone, or four crops as a mosaic, row by row."""
    return pieces[0] if len(pieces) == 1 else np.block([pieces[:2], pieces[2:]])
