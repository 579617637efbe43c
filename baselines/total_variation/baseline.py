"""Total variation: 1/2 |A x - y|^2 + lambda TV(x), isotropic, by proximal gradient steps with a falling lambda; prior
and algorithm are deepinv's.

Rudin, Osher and Fatemi, "Nonlinear total variation based noise removal algorithms", Physica D 1992; Beck and Teboulle,
"Fast gradient-based algorithms for constrained total variation image denoising and deblurring problems", IEEE TIP 2009.
"""

from deepinv.optim import Prior, TVPrior
from deepinv.physics import LinearPhysics

from baselines.classical import ProximalReconstruction

FIRST = 0.1
LAST = 0.001
"""lambda over |A|^2 in the first and in the last step, for values in [0, 1]; LAST was chosen on validation images, see
`workflow/tune_classical.py`."""

ITERATIONS = 60
INNER = 10  # steps of each proximal step, which starts where the one before ended


class Baseline(ProximalReconstruction):
    """Nothing is trained."""

    def __init__(self, physics: LinearPhysics, channels: int, last: float = LAST) -> None:
        super().__init__(FIRST, last, ITERATIONS)

    def prior(self) -> Prior:
        return TVPrior(n_it_max=INNER)
