"""GAP-TV, after Yuan, "Generalized alternating projection based total variation minimization for compressive sensing",
ICIP 2016: projections on the measurement in turn with steps of total variation, band by band; the latter are
scikit-image's (Chambolle, "An algorithm for total variation minimization and applications", JMIV 2004)."""

import torch
from torch import Tensor, nn

from lorun.physics.cassi import CASSI
from lorun.plugins.cassi import needs_cassi

STRENGTH = 1.0
"""Of total variation, for values in [0, 1]."""

ITERATIONS = 120
"""Both were chosen on training and validation scenes of `cave9`, see `workflow/tune_options.py`: 0.4 dB above a
strength of 0.1; 240 iterations gain nothing."""

_INNER = 5  # steps of each proximal step, which starts anew


class Baseline(nn.Module):
    """v = x + A^T (A A^T)^-1 (y_k - A x);  x = TV(v);  y_k grows by y - A x. Nothing is trained."""

    data_dependent = True  # scikit-image works on arrays, not on tensors

    def __init__(self, physics: CASSI, channels: int, strength: float = STRENGTH, iterations: int = ITERATIONS) -> None:
        super().__init__()
        self.strength = strength
        self.stages = iterations

    unsupported = staticmethod(needs_cassi)

    @torch.no_grad()
    def forward(self, y: Tensor, physics: CASSI) -> Tensor:
        with torch.autocast(y.device.type, enabled=False):
            x = torch.zeros_like(physics.shift_back(y))
            accumulated = torch.zeros_like(y)
            for _ in range(self.stages):
                measured = physics.A(x)
                accumulated = accumulated + (y - measured)
                x = total_variation(x + physics.A_dagger(accumulated - measured), self.strength)
            return x


def total_variation(v: Tensor, strength: float) -> Tensor:
    """(B, bands, H, W) -> same; band by band."""
    from skimage.restoration import denoise_tv_chambolle  # seconds to import

    planes = v.flatten(0, 1).cpu().numpy()
    smooth = denoise_tv_chambolle(planes, strength, eps=0, max_num_iter=_INNER, channel_axis=0)
    return torch.from_numpy(smooth).to(v).reshape(v.shape)
