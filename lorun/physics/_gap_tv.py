"""GAP-TV, after Yuan, "Generalized alternating projection based total variation minimization for compressive sensing",
ICIP 2016: projections on the measurement in turn with steps of total variation, band by band; the latter are
scikit-image's (Chambolle, "An algorithm for total variation minimization and applications", JMIV 2004)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lorun.physics.cassi import CASSI

_INNER = 5  # steps of each proximal step, which starts anew


@torch.no_grad()
def gap_tv(y: Tensor, physics: "CASSI", strength: float, iterations: int) -> Tensor:
    """v = x + A^T (A A^T)^-1 (y_k - A x);  x = TV(v);  y_k grows by y - A x.

    Args:
        y: (B, 1, H, W + dispersion).
        strength: of total variation, for values in [0, 1].

    Returns:
        (B, bands, H, W).
    """
    with torch.autocast(y.device.type, enabled=False):
        x = torch.zeros_like(physics.shift_back(y))
        accumulated = torch.zeros_like(y)
        for _ in range(iterations):
            measured = physics.A(x)
            accumulated = accumulated + (y - measured)
            x = total_variation(x + physics.A_dagger(accumulated - measured), strength)
        return x


@torch.library.custom_op("lorun::total_variation", mutates_args=())
def total_variation(v: Tensor, strength: float) -> Tensor:
    """(B, bands, H, W) -> same; band by band. An operator of its own, so that it has a shape on fake tensors."""
    from skimage.restoration import denoise_tv_chambolle  # seconds to import

    planes = v.flatten(0, 1).cpu().numpy()
    smooth = denoise_tv_chambolle(planes, strength, eps=0, max_num_iter=_INNER, channel_axis=0)
    return torch.from_numpy(smooth).to(v).reshape(v.shape)


@total_variation.register_fake
def _(v: Tensor, strength: float) -> Tensor:
    return torch.empty_like(v, memory_format=torch.contiguous_format)
