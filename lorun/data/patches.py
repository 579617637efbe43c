"""Training patches, drawn at random from images held in memory: a batch is a function of (seed, step)."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from lorun import seeds
from lorun.errors import LorunError

_AHEAD = 4  # batches prepared while the device works
_CHUNK = 2048  # blocks per chunk of the initial estimate's fit


class PatchStream:
    """Batches of patches: `stream.batch(step)` is (B, C, patch, patch), float32 in [0, 1], the same whenever asked.

    Images are drawn in proportion to their pixels, positions uniformly, then one of the eight flips and rotations.

    Args:
        images: name -> uint8 array (C, H, W).
        patch: side, pixels.
        batch: patches in a batch.
        seed: of the run.
        share: which patches of each batch to give, of those that the whole batch would have.

    Raises:
        LorunError: there are no images, or one is smaller than a patch.
    """

    def __init__(
        self, images: Mapping[str, np.ndarray], patch: int, batch: int, seed: int, share: slice = slice(None)
    ) -> None:
        if not images:
            raise LorunError("no training images")
        for name, image in images.items():
            if min(image.shape[1:]) < patch:
                height, width = image.shape[1:]
                raise LorunError(f"training image {name} is {height} x {width}, smaller than a patch of {patch} pixels")
        self.images = list(images.values())
        sizes = np.array([image.shape[1] * image.shape[2] for image in self.images], dtype=float)
        self.weights = sizes / sizes.sum()
        self.patch = patch
        self.size = batch
        self.seed = seed
        self.share = share

    def batch(self, step: int) -> Tensor:
        random = seeds.generator(self.seed, seeds.PATCHES, step)
        chosen = random.choice(len(self.images), size=self.size, p=self.weights)
        patches = [_turn(_crop(self.images[i], self.patch, random), int(random.integers(8))) for i in chosen]
        return torch.from_numpy(np.stack(patches[self.share])).float().div_(255)

    def batches(self, first: int, last: int, pin: bool = False) -> Iterator[Tensor]:
        """The batches of steps `first` to `last` - 1, made in a thread ahead of their use; pinned if asked."""

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
    """`count` blocks at random places, as chunks (N, block**2) of float64 in [0, 1]; channels count as images.

    Raises:
        LorunError: an image is smaller than a block.
    """
    stream = PatchStream(images, block, 1, seed)
    random = seeds.generator(seed, seeds.INITIAL_BLOCKS)
    chosen = random.choice(len(stream.images), size=count, p=stream.weights)
    for start in range(0, count, _CHUNK):
        crops = [_crop(stream.images[i], block, random) for i in chosen[start : start + _CHUNK]]
        yield torch.from_numpy(np.concatenate(crops)).reshape(-1, block**2).double().div_(255)


def _crop(image: np.ndarray, side: int, random: np.random.Generator) -> np.ndarray:
    top = random.integers(image.shape[1] - side + 1)
    left = random.integers(image.shape[2] - side + 1)
    return image[:, top : top + side, left : left + side]


def _turn(patch: np.ndarray, which: int) -> np.ndarray:
    patch = np.rot90(patch, which % 4, axes=(1, 2))
    return patch[:, :, ::-1] if which >= 4 else patch
