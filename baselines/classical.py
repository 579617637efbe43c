"""What the baselines without training have in common: deepinv's proximal algorithms from the suite's first estimate.

Their constants were chosen by `workflow/tune_classical.py`, on validation images.
"""

import torch
from deepinv.optim import L2, PGD, Prior
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from lorun.unfolding import initial_estimate

_POWER_ITERATIONS = 30


class ProximalReconstruction(nn.Module):
    """Gradient steps on 1/2 |A x - y|^2, each but the last followed by a proximal step of a prior; nothing is trained.

    The prior's strength falls geometrically from `first` to `last`: measurements are free of noise, so the prior is to
    decide only what they leave open.
    """

    data_dependent = True  # deepinv's algorithms look at values, so that fake tensors cannot take their course

    def __init__(self, first: float, last: float, iterations: int) -> None:
        super().__init__()
        self.strengths = [first * (last / first) ** (step / (iterations - 1)) for step in range(iterations)]
        self.stages = iterations

    @classmethod
    def declines(cls, physics: object, channels: int) -> str | None:
        return None if isinstance(physics, LinearPhysics) else f"{type(physics).__name__} is not linear"

    def prior(self) -> Prior:
        """A fresh one for every image: deepinv's total variation starts from the result of the image before."""
        raise NotImplementedError

    @torch.no_grad()
    def forward(self, y: Tensor, physics: LinearPhysics) -> Tensor:
        with torch.autocast(y.device.type, enabled=False):
            x = initial_estimate(y, physics)
            step_size = 1 / squared_norm(physics, x)
            algorithm = PGD(
                data_fidelity=L2(),
                prior=self.prior(),
                lambda_reg=[strength / step_size for strength in self.strengths],  # whatever the scale of A
                sigma_denoiser=self.strengths,
                stepsize=step_size,
                max_iter=len(self.strengths),
            )
            x = algorithm(y, physics, init=x)
            return x + step_size * physics.A_adjoint(y - physics.A(x))


def squared_norm(physics: LinearPhysics, x: Tensor) -> float:
    """The largest eigenvalue of A^T A, by power iteration from a fixed start; a hundredth above what that finds."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(x[:1].shape, generator=generator, dtype=x.dtype).to(x.device)
    norm = 1.0
    for _ in range(_POWER_ITERATIONS):
        v = physics.A_adjoint(physics.A(v))
        norm = float(v.norm())
        v = v / norm
    return 1.01 * norm
