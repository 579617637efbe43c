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
_COSINES = 4  # terms of the logarithm of a gain


class PatchStream:
    """Batches of patches: `stream.batch(step)` is (B, C, height, width), float32 in [0, 1].

    Images are drawn in proportion to their pixels, positions uniformly, then one of the flips and rotations that keep
    the size: eight for a square, else four.

    Args:
        images: name -> uint8 (C, H, W), or float (C, H, W) in [0, 1].
        patch: height and width, pixels.
        batch: number of patches.
        seed: of the run.
        share: the patches of each batch to return, for one process of several.
        mosaic: whether the second half of each batch (rounded down) consists of 2 x 2 mosaics of independent crops of
            half the sides.
        gain: each patch is multiplied with a random gain, a smooth function of the band, as another light and another
            exposure would; `gain` is the standard deviation of the logarithm of its mean. Then it is divided by its
            largest value, where that is above 1.

    Raises:
        LorunError: there are no images, an image is smaller than a patch, or a side of mosaics is odd.
    """

    def __init__(
        self,
        images: Mapping[str, np.ndarray],
        patch: tuple[int, int],
        batch: int,
        seed: int,
        share: slice = slice(None),
        mosaic: bool = False,
        gain: float = 0.0,
    ) -> None:
        if not images:
            raise LorunError("no training images")
        if mosaic and any(side % 2 for side in patch):
            raise LorunError(f"a patch of {_text(patch)} must be even with `mosaic: true`: pieces have half its sides")
        for name, image in images.items():
            height, width = image.shape[1:]
            if height < patch[0] or width < patch[1]:
                raise LorunError(f"training image {name} is {height} x {width}, smaller than a patch of {_text(patch)}")
        self.images = list(images.values())
        sizes = np.array([image.shape[1] * image.shape[2] for image in self.images], dtype=float)
        self.weights = sizes / sizes.sum()
        self.patch = patch
        self.turns = range(8) if patch[0] == patch[1] else range(0, 8, 2)
        self.size = batch
        self.seed = seed
        self.share = share
        self.mosaics = batch // 2 if mosaic else 0
        self.gain = gain

    def batch(self, step: int) -> Tensor:
        random = seeds.generator(self.seed, seeds.PATCHES, step)
        whole = self.size - self.mosaics
        chosen = random.choice(len(self.images), size=whole + 4 * self.mosaics, p=self.weights)
        half = (self.patch[0] // 2, self.patch[1] // 2)
        sizes = [self.patch] * whole + [half] * 4 * self.mosaics
        crops = [
            _turn(_crop(self.images[i], size, random), self.turns[int(random.integers(len(self.turns)))])
            for i, size in zip(chosen, sizes, strict=True)
        ]
        pieces = [*([crop] for crop in crops[:whole]), *(crops[at : at + 4] for at in range(whole, len(crops), 4))]
        batch = in_unit_range(torch.from_numpy(np.stack([_joined(crops) for crops in pieces[self.share]])))
        return self._under_other_light(batch, step) if self.gain else batch

    def _under_other_light(self, batch: Tensor, step: int) -> Tensor:
        random = seeds.generator(self.seed, seeds.GAINS, step)
        terms = np.arange(_COSINES)
        bands = (np.arange(batch.shape[1]) + 0.5) / batch.shape[1]
        weights = random.normal(scale=self.gain / (1 + terms), size=(self.size, _COSINES))[self.share]
        gains = np.exp(weights @ np.cos(np.pi * np.outer(terms, bands)))
        lit = batch * torch.from_numpy(gains).to(batch)[:, :, None, None]
        return lit / lit.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1)

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
    stream = PatchStream(images, (block, block), 1, seed)
    random = seeds.generator(seed, seeds.INITIAL_BLOCKS)
    chosen = random.choice(len(stream.images), size=count, p=stream.weights)
    for start in range(0, count, _CHUNK):
        crops = [_crop(stream.images[i], stream.patch, random) for i in chosen[start : start + _CHUNK]]
        yield in_unit_range(torch.from_numpy(np.concatenate(crops)).reshape(-1, block**2), torch.float64)


def in_unit_range(pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Pixels as floats: bytes are divided by 255, floats (in [0, 1] already) only change their type."""
    return pixels.to(dtype).div_(255) if pixels.dtype == torch.uint8 else pixels.to(dtype)


def _crop(image: np.ndarray, size: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    height, width = size
    top = random.integers(image.shape[1] - height + 1)
    left = random.integers(image.shape[2] - width + 1)
    return image[:, top : top + height, left : left + width]


def _turn(patch: np.ndarray, which: int) -> np.ndarray:
    patch = np.rot90(patch, which % 4, axes=(1, 2))
    return patch[:, :, ::-1] if which >= 4 else patch


def _joined(pieces: list[np.ndarray]) -> np.ndarray:
    """The crop alone, or four crops as a mosaic, row by row."""
    return pieces[0] if len(pieces) == 1 else np.block([pieces[:2], pieces[2:]])


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} pixels"
