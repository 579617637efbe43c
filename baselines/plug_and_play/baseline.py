"""Plug-and-play: in the place of a proximal step, a denoiser that thresholds the cosine transform of 8 x 8 windows.

Venkatakrishnan, Bouman and Wohlberg, "Plug-and-play priors for model based reconstruction", GlobalSIP 2013; the
denoiser: Yu and Sapiro, "DCT image denoising: a simple and effective image denoising algorithm", IPOL 2011. Prior and
algorithm are deepinv's.
"""

import math

import torch
import torch.nn.functional as F
from deepinv.optim import PnP, Prior
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from lorun.plugins.proximal import ProximalReconstruction

FIRST = 0.05
LAST = 0.002
"""Noise level that the denoiser takes away in the first and in the last step, for values in [0, 1]; LAST was chosen on
validation images, see `workflow/tune_options.py`."""

ITERATIONS = 60

LAST_LEVEL = 0.005
"""Noise level of the last step where there is blur, or that of the noise, if more; chosen by hand
on crops of three validation images."""

SIDE = 8  # of a window, pixels
THRESHOLD = 3.0  # of a coefficient, in noise levels


class Baseline(ProximalReconstruction):
    """Nothing is trained."""

    first = FIRST
    iterations = ITERATIONS
    first_level = 0.05
    splittings = 12

    def __init__(
        self, physics: LinearPhysics, channels: int, last: float = LAST, last_level: float = LAST_LEVEL
    ) -> None:
        super().__init__(physics, last, last_level)
        self.denoiser = SlidingCosineDenoiser()

    @classmethod
    def unsupported(cls, physics: object, channels: int) -> str | None:
        if channels not in (1, 3):
            return f"it was made and tuned for photographs of 1 or 3 channels, not {channels}"
        return super().unsupported(physics, channels)

    def prior(self) -> Prior:
        return PnP(self.denoiser)


class SlidingCosineDenoiser(nn.Module):
    """Every window's cosine transform with its small coefficients set to zero, averaged over the windows of a pixel."""

    def __init__(self) -> None:
        super().__init__()
        place = torch.arange(SIDE, dtype=torch.float64)
        rows = torch.cos(math.pi * (2 * place + 1) * place[:, None] / (2 * SIDE)) * math.sqrt(2 / SIDE)
        rows[0] /= math.sqrt(2)
        basis = torch.einsum("ij,kl->ikjl", rows, rows).reshape(SIDE**2, 1, SIDE, SIDE)
        self.basis: Tensor
        self.register_buffer("basis", basis.float(), persistent=False)

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """(B, C, H, W) -> same; channels one by one."""
        batch, channels, height, width = x.shape
        planes = F.pad(x.reshape(-1, 1, height, width), (SIDE - 1,) * 4, mode="replicate")
        coefficients = F.conv2d(planes, self.basis)  # (B*C, SIDE**2, H+7, W+7)
        limit = THRESHOLD * torch.as_tensor(sigma, dtype=x.dtype, device=x.device).flatten()[0]
        kept = coefficients.abs() > limit
        kept[:, 0] = True  # the mean of a window
        summed = F.conv_transpose2d(coefficients * kept, self.basis)
        inside = summed[..., SIDE - 1 : SIDE - 1 + height, SIDE - 1 : SIDE - 1 + width]
        return (inside / SIDE**2).reshape(batch, channels, height, width)
