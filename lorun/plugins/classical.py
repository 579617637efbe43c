"""What the baselines without training have in common: deepinv's proximal algorithms.

In general they make gradient steps from the suite's first estimate. Blur leaves so little of many frequencies that
gradient steps hardly find them: there the data term is solved for in closed form (half-quadratic splitting), from
Tikhonov's estimate. Their constants were chosen on validation images: those for blocks and snapshots, and the weight of
total variation on blur, by `workflow/tune_classical.py`; the others for blur by hand, on crops of three images.
"""

import math

import torch
from deepinv.optim import HQS, L2, PGD, Prior
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from baselines.tikhonov.baseline import Baseline as Tikhonov
from lorun.physics.blur_downsample import BlurDownsample
from lorun.plugins.blurred import error_variance
from lorun.unfolding import initial_reconstruction

_POWER_ITERATIONS = 30


class ProximalReconstruction(nn.Module):
    """A data term in turn with a proximal step of a prior; nothing is trained.

    In general: gradient steps on 1/2 |A x - y|^2, each but the last followed by a proximal step. The prior's strength
    falls geometrically from `first` to `last`: measurements are free of noise, so the prior is to decide only what they
    leave open.

    Of blur, v being the variance of a measurement's error (`error_variance`): x = argmin |A x - y|^2 / 2v
    + |x - z|^2 / 2s^2, then the proximal step of s^2 `weight` times the prior, or a denoiser for the level s, which
    falls geometrically from `first_level` to `last_level`, or to sqrt(v) where that is more. So the operator's noise
    chooses, and the constants serve any.
    """

    data_dependent = True  # deepinv's algorithms look at values, so that fake tensors cannot take their course

    first: float
    iterations: int  # gradient steps
    first_level: float
    splittings: int  # of blur

    def __init__(self, physics: LinearPhysics, last: float, last_level: float, weight: float = 1.0) -> None:
        super().__init__()
        self.strengths = geometric(self.first, last, self.iterations)
        self.last_level = last_level
        self.weight = weight
        self.stages = self.splittings if isinstance(physics, BlurDownsample) else self.iterations

    @classmethod
    def unsupported(cls, physics: object, channels: int) -> str | None:
        return None if isinstance(physics, LinearPhysics) else f"{type(physics).__name__} is not linear"

    def prior(self) -> Prior:
        """A fresh one for every image: deepinv's total variation starts from the result of the image before."""
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
                lambda_reg=[strength / step_size for strength in self.strengths],  # whatever the scale of A
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
        start = Tikhonov(physics, y.shape[1])(y, physics)
        estimate: Tensor = algorithm(y, physics, init=start)
        return estimate


def geometric(first: float, last: float, count: int) -> list[float]:
    """From `first` to `last` in equal ratios."""
    return [first * (last / first) ** (step / (count - 1)) for step in range(count)]


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
