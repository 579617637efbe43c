"""Inputs for phase 1 that look like those of later stages."""

import torch
from torch import Tensor

from lorun import seeds
from lorun.step import Mixture

_MOST_NOISE = 0.05  # standard deviation, in image units


def mixtures(batch: int, share: slice, seed: int, step: int) -> Mixture:
    """Replace the second half of a batch of initial reconstructions x_0 by t x + (1 - t) x_0 + noise.

    t is uniform in [0, 1], the noise's standard deviation in [0, 0.05], for each patch. They depend on the seed and the
    step alone; `share` is the part of the batch that this process has.
    """
    random = seeds.generator(seed, seeds.MIXTURES, step)
    t = random.uniform(size=batch)
    t[: batch - batch // 2] = 0
    sigma = _MOST_NOISE * random.uniform(size=batch) * (t > 0)
    weights = torch.from_numpy(t[share]).float().view(-1, 1, 1, 1)
    levels = torch.from_numpy(sigma[share]).float().view(-1, 1, 1, 1)
    noise_seed = int(random.integers(2**31))

    def mix(x_0: Tensor, x: Tensor) -> Tensor:
        noise = torch.randn(batch, *x.shape[1:], generator=torch.Generator().manual_seed(noise_seed))[share]
        return torch.lerp(x_0, x, weights.to(x)) + levels.to(x) * noise.to(x)

    return mix
