"""Plug-and-play with a pretrained denoiser that is told the noise level: half-quadratic splitting, nothing trained.

After DPIR (Zhang, Li, Zuo, Zhang, Van Gool and Timofte, "Plug-and-Play Image Restoration with Deep Denoiser Prior",
IEEE TPAMI 2022): to minimise |A x - y|^2 / (2 sigma^2) + lambda R(x), the two terms take turns. Step k = 1..N:

    x_k = argmin over x of |A x - y|^2 + alpha_k |x - z_{k-1}|^2,    alpha_k = lambda (sigma / sigma_k)^2
    z_k = D(x_k, sigma_k)

with sigma the noise level of the measurement, and sigma_k falling geometrically. z_0 is the setting's first estimate,
z_N the result. What differs from DPIR: the denoiser, a small one of the suite; the constants, which a profile states
(`SplittingConfig`) and `workflow/tune_splitting.py` chooses on validation images; images are not turned between steps.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lorun.config import Experiment, SplittingConfig
from lorun.physics import Operator
from lorun.unfolding import initial_reconstruction, load_denoiser


class HalfQuadraticSplitting(nn.Module):
    """model(y, physics) -> estimate of x, by `said.iterations` steps with one frozen denoiser.

    Args:
        make_denoiser: called with noise_map=True, returns a fresh denoiser D(z, sigma).
        said: the constants.

    Attributes:
        stages: how often the denoiser is called.
    """

    def __init__(self, make_denoiser: Callable[[bool], nn.Module], said: SplittingConfig) -> None:
        super().__init__()
        self.said = said
        self.stages = said.iterations
        self.denoisers = nn.ModuleList([make_denoiser(True)]).requires_grad_(False)

    @torch.no_grad()
    def forward(self, y: Tensor, physics: Operator) -> Tensor:
        z = initial_reconstruction(y, physics)  # (B, C, H, W)
        noise = physics.noise_level(y).clamp_min(self.said.least_noise / 255)
        for sigma in noise_levels(self.said, noise):
            alpha = self.said.weight * (noise / sigma) ** 2
            # In full precision: the data term is where its digits matter.
            with torch.autocast(y.device.type, enabled=False):
                x = physics.prox_l2(z.to(y.dtype), y, 1 / alpha)
            z = self.denoisers[0](x, sigma)
        return z

    def load_base(self, pretrained: Mapping[str, Tensor], step_size: bool = False) -> None:
        """Take the denoiser of a trained `block1` network, given as its state dict; a step size has no place here.

        Raises:
            LorunError: a weight is missing, or of another shape.
        """
        load_denoiser(dict(self.denoisers[0].named_parameters()), pretrained)

    def parameter_kinds(self) -> dict[str, list[nn.Parameter]]:
        """All parameters by what they are: those of the base."""
        return {"base": list(self.parameters()), "adapters": [], "step_sizes": [], "other": []}


def noise_levels(said: SplittingConfig, noise: Tensor) -> list[Tensor]:
    """sigma_1 to sigma_N, in image units, of the shape of `noise`, the noise level of the measurements.

    They fall geometrically from `said.first` to the noise of the measurement, or to `said.last` where that is above.
    """
    last = noise.clamp_min(said.last / 255)
    first = last.clamp_min(said.first / 255)  # no lower than where they end, whatever the noise
    return [first * (last / first) ** (step / max(said.iterations - 1, 1)) for step in range(said.iterations)]


def build_splitting(experiment: Experiment) -> HalfQuadraticSplitting:
    """The network of an experiment of the method `deep_plug_and_play`, its denoiser not yet pretrained."""
    said: Any = experiment.splitting
    return HalfQuadraticSplitting(
        lambda noise_map: experiment.denoiser.build(experiment.data.channels, noise_map), said
    )
