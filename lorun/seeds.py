"""Random streams: every use has its own, derived from the run's seed and nothing else.

So all strategies see the same patches and start from the same weights, and a resumed run draws what an uninterrupted
one would have drawn.
"""

import numpy as np
import torch

PATCHES, INITIAL_BLOCKS, WEIGHTS, OPERATOR, KERNELS, MIXTURES, GAINS = range(7)


def generator(seed: int, purpose: int, *position: int) -> np.random.Generator:
    """The generator of `purpose` (one of this module's constants), at a position such as the step."""
    return np.random.default_rng([seed, purpose, *position])


def seed_torch(seed: int, purpose: int) -> None:
    """Put torch's global generators, which initialise weights, at the start of the stream of `purpose`."""
    torch.manual_seed(int(generator(seed, purpose).integers(2**63)))
