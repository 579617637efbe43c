"""Classical reconstruction without training: deepinv's proximal algorithms.

In general they make gradient steps from the initial reconstruction. Blur suppresses many frequencies so much that
gradient steps hardly recover them: there the data term is minimised in closed form (half-quadratic splitting), from
Tikhonov's estimate. The constants were chosen on validation images: those for block compressed sensing and CASSI, and
the weight of total variation for blur, by `workflow/tune_options.py`; the others for blur by hand, on crops of three
images.
"""

import math

import torch
from deepinv.optim import HQS, L2, PGD, Prior
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from lorun.physics._tikhonov import error_variance, tikhonov
from lorun.physics.blur_downsample import BlurDownsample
from lorun.plugins.wrappers import needs_linear
from lorun.unfolding import initial_reconstruction

_POWER_ITERATIONS = 30


class ProximalReconstruction(nn.Module):
    """Steps on the data term alternate with proximal steps of a prior; nothing is trained.

    In general: gradient steps on 1/2 |A x - y|^2, each but the last followed by a proximal step. The prior's strength
    falls geometrically from `first` to `last`: the measurements have no noise, so in the end the prior decides only
    what they leave open.

    For blur, with v the variance of a measurement's error (`error_variance`): x = argmin |A x - y|^2 / 2v
    + |x - z|^2 / 2s^2, then the proximal step of s^2 `weight` times the prior, or a denoiser for the level s, which
    falls geometrically from `first_level` to `last_level`, or to sqrt(v) where that is larger. So the same constants
    serve any noise level.
    """

    data_dependent = True  # deepinv's algorithms branch on values, which fake tensors do not have

    first: float
    iterations: int  # gradient steps
    first_level: float
    splittings: int  # steps for blur

    def __init__(self, physics: LinearPhysics, last: float, last_level: float, weight: float = 1.0) -> None:
        super().__init__()
        self.strengths = geometric(self.first, last, self.iterations)
        self.last_level = last_level
        self.weight = weight
        self.stages = self.splittings if isinstance(physics, BlurDownsample) else self.iterations

    unsupported = staticmethod(needs_linear)

    def prior(self) -> Prior:
        """A fresh one for every image: deepinv's total variation would start from the previous image's result."""
        raise NotImplementedError

    @torch.no_grad()
    def forward(self, y: Tensor, physics: LinearPhysics) -> Tensor:
        with torch.autocast(y.device.type, enabled=False):
            if isinstance(physics, BlurDownsample):
                return self.split(y, physics)
            x = initial_reconstruction(y, physics)
            step_size = 1 / squared_norm(physics, x)
            algorithm = PGD(
                data_fidelity=L2(),
                prior=self.prior(),
                lambda_reg=[strength / step_size for strength in self.strengths],  # independent of the scale of A
                sigma_denoiser=self.strengths,
                stepsize=step_size,
                max_iter=len(self.strengths),
            )
            x = algorithm(y, physics, init=x)
            return x + step_size * physics.A_adjoint(y - physics.A(x))

    def split(self, y: Tensor, physics: BlurDownsample) -> Tensor:
        """By half-quadratic splitting."""
        variance = error_variance(physics)
        last = max(self.last_level, math.sqrt(variance))
        levels = geometric(max(self.first_level, last), last, self.splittings)
        algorithm = HQS(
            data_fidelity=L2(),
            prior=self.prior(),
            lambda_reg=self.weight * variance,
            sigma_denoiser=levels,
            stepsize=[level**2 / variance for level in levels],
            max_iter=self.splittings,
        )
        estimate: Tensor = algorithm(y, physics, init=tikhonov(y, physics))
        return estimate


def geometric(first: float, last: float, count: int) -> list[float]:
    """From `first` to `last` in equal ratios."""
    return [first * (last / first) ** (step / (count - 1)) for step in range(count)]


def squared_norm(physics: LinearPhysics, x: Tensor) -> float:
    """The largest eigenvalue of A^T A, by power iteration from a fixed start, plus 1 %."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(x[:1].shape, generator=generator, dtype=x.dtype).to(x.device)
    norm = 1.0
    for _ in range(_POWER_ITERATIONS):
        v = physics.A_adjoint(physics.A(v))
        norm = float(v.norm())
        v = v / norm
    return 1.01 * norm
