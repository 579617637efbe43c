"""Plug-and-play with a pretrained denoiser: half-quadratic splitting, nothing trained here.

After DPIR (Zhang, Li, Zuo, Zhang, Van Gool and Timofte, "Plug-and-Play Image Restoration with Deep Denoiser Prior",
IEEE TPAMI 2022): to minimise |A x - y|^2 / (2 sigma^2) + lambda R(x), steps on the two terms alternate, k = 1..N:

    x_k = argmin over x of |A x - y|^2 + alpha_k |x - z_{k-1}|^2,    alpha_k = lambda (sigma / sigma_k)^2
    z_k = D(x_k, sigma_k)

with sigma the noise level of the measurement and sigma_k falling geometrically. z_0 is the initial reconstruction, z_N
the result.
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from lorun.config.section import Section
from lorun.errors import LorunError
from lorun.physics import Operator
from lorun.unfolding import UnfoldingNetwork, initial_reconstruction, load_denoiser


class Baseline(nn.Module):
    """N data steps, each followed by one frozen denoiser.

    Args:
        base: a network with one denoiser, which takes a noise level input.

    Attributes:
        stages: how often the denoiser is called.
    """

    takes_base = True

    class Options(Section):
        """The defaults are those of DPIR for deblurring."""

        iterations: int = Field(8, ge=1, le=1000, description="data steps, each followed by the denoiser")
        weight: float = Field(0.23, gt=0, description="lambda, the weight of the prior")
        first: float = Field(49.0, gt=0, le=255, description="noise level of the first denoising, grey levels")
        last: float = Field(
            1.0, gt=0, le=255, description="noise level of the last, grey levels; that of the measurement, if higher"
        )
        least_noise: float = Field(
            0.255, gt=0, le=255, description="noise assumed where the measurement has less, grey levels"
        )

    def __init__(self, physics: Operator, channels: int, options: Options, base: UnfoldingNetwork) -> None:
        super().__init__()
        if not base.noise_map:
            raise LorunError(
                "the base of deep_plug_and_play needs a noise level input: train it in a setting with `noise_map: true`"
            )
        self.options = options
        self.stages = options.iterations
        self.denoisers = base.denoisers.requires_grad_(False)

    @classmethod
    def unsupported(cls, physics: object, channels: int) -> str | None:
        return None if isinstance(physics, Operator) else f"{type(physics).__name__} does not give its noise level"

    @torch.no_grad()
    def forward(self, y: Tensor, physics: Operator) -> Tensor:
        z = initial_reconstruction(y, physics)  # (B, C, H, W)
        noise = physics.noise_level(y).clamp_min(self.options.least_noise / 255)
        for sigma in self.noise_levels(noise):
            alpha = self.options.weight * (noise / sigma) ** 2
            with torch.autocast(y.device.type, enabled=False):  # the data term never in half precision
                x = physics.prox_l2(z.to(y.dtype), y, 1 / alpha)
            z = self.denoisers[0](x, sigma)
        return z

    def noise_levels(self, noise: Tensor) -> list[Tensor]:
        """sigma_1 to sigma_N for measurements with noise of the levels `noise`, image units, in the same shape.

        They fall geometrically from `first` to the noise of the measurement, or to `last` if that is higher.
        """
        last = noise.clamp_min(self.options.last / 255)
        first = last.clamp_min(self.options.first / 255)  # never below the last, however strong the noise
        return [first * (last / first) ** (step / max(self.stages - 1, 1)) for step in range(self.stages)]

    def load_base(self, state: Mapping[str, Tensor], step_size: bool = False) -> None:
        """Take the denoiser of a trained `block1` network, given as its state dict; the step size is not used.

        Raises:
            LorunError: a weight is missing, or has another shape.
        """
        load_denoiser(dict(self.denoisers[0].named_parameters()), state)

    def parameter_kinds(self) -> dict[str, list[nn.Parameter]]:
        """All parameters by kind; they all belong to the base."""
        return {"base": list(self.parameters()), "adapters": [], "step_sizes": [], "other": []}
