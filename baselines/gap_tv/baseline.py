"""GAP-TV, see `lorun.physics._gap`: projections on the measurement in turn with steps of total variation, band by
band; the latter are scikit-image's (Chambolle, "An algorithm for total variation minimization and applications", JMIV
2004)."""

import torch
from torch import Tensor, nn

from lorun.physics._gap import gap
from lorun.physics.cassi import CASSI
from lorun.plugins.cassi import needs_cassi

STRENGTH = 1.0
"""Of total variation, for values in [0, 1]."""

ITERATIONS = 120
"""Both were chosen on training and validation scenes of `cave9`, see `workflow/tune_options.py`: 0.4 dB above a
strength of 0.1; 240 iterations gain nothing."""

_INNER = 5  # steps of each proximal step, which starts anew


class Baseline(nn.Module):
    """Nothing is trained."""

    data_dependent = True  # scikit-image works on arrays, not on tensors

    def __init__(self, physics: CASSI, channels: int, strength: float = STRENGTH, iterations: int = ITERATIONS) -> None:
        super().__init__()
        self.strength = strength
        self.stages = iterations

    unsupported = staticmethod(needs_cassi)

    def forward(self, y: Tensor, physics: CASSI) -> Tensor:
        return gap(y, physics, lambda v, _: total_variation(v, self.strength), self.stages)


def total_variation(v: Tensor, strength: float) -> Tensor:
    """(B, bands, H, W) -> same; band by band."""
    from skimage.restoration import denoise_tv_chambolle  # seconds to import

    planes = v.flatten(0, 1).cpu().numpy()
    smooth = denoise_tv_chambolle(planes, strength, eps=0, max_num_iter=_INNER, channel_axis=0)
    return torch.from_numpy(smooth).to(v).reshape(v.shape)
