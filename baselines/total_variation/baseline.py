"""Total variation: 1/2 |A x - y|^2 + lambda TV(x), isotropic, by proximal gradient steps with a falling lambda, or by
half-quadratic splitting where there is blur; prior and algorithms are deepinv's.

Rudin, Osher and Fatemi, "Nonlinear total variation based noise removal algorithms", Physica D 1992; Beck and Teboulle,
"Fast gradient-based algorithms for constrained total variation image denoising and deblurring problems", IEEE TIP 2009.
"""

from deepinv.optim import Prior, TVPrior
from deepinv.physics import LinearPhysics

from lorun.plugins.proximal import ProximalReconstruction

FIRST = 0.1
LAST = 0.001
"""lambda over |A|^2 in the first and in the last step, for values in [0, 1]; LAST was chosen on validation images, see
`workflow/tune_options.py`."""

ITERATIONS = 60
INNER = 10  # steps of each proximal step, which starts where the one before ended

WEIGHT = 5.0
"""lambda over the variance of a measurement's error, where there is blur; chosen on
two validation images."""


class Baseline(ProximalReconstruction):
    """Nothing is trained."""

    first = FIRST
    iterations = ITERATIONS
    first_level = 0.1
    splittings = 12

    def __init__(self, physics: LinearPhysics, channels: int, last: float = LAST, weight: float = WEIGHT) -> None:
        super().__init__(physics, last, last_level=0.005, weight=weight)

    def prior(self) -> Prior:
        return TVPrior(n_it_max=INNER)
