"""Snapshot spectral imaging (CASSI): which operators those baselines support, the projection, and shifted bands.

On the detector, band b of a scene is shifted to the right by b * step pixels; the bands overlap there and add up.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lorun.physics.cassi import CASSI


def needs_cassi(physics: object, channels: int) -> str | None:
    """The reason why a network for CASSI cannot be used with an operator, or None."""
    if not isinstance(physics, CASSI):
        return f"it reconstructs scenes from a CASSI snapshot, and {type(physics).__name__} takes none"
    if channels != physics.bands:
        return f"the snapshot has {physics.bands} bands, images have {channels} channels"
    return None


def projected(x: Tensor, y: Tensor, physics: CASSI) -> Tensor:
    """x + A^T (A A^T)^-1 (y - A x), the scene nearest to x that explains y; independent of the scale of A."""
    with torch.autocast(y.device.type, enabled=False):
        return x + physics.A_dagger(y - physics.A(x.to(y.dtype)))


def on_detector(x: Tensor, step: int) -> Tensor:
    """Shift every band, with zeros around it: (B, bands, H, W) -> (B, bands, H, W + step * (bands - 1))."""
    bands, height, width = x.shape[1:]
    wide = width + step * (bands - 1)
    # Read with `step` columns fewer than it has, a matrix has its row b begin b * step columns later.
    rows = F.pad(x, (0, wide + step - width)).transpose(1, 2).flatten(2)  # (B, H, bands * (wide + step))
    return rows[..., : bands * wide].reshape(-1, height, bands, wide).transpose(1, 2)


def on_scene(v: Tensor, step: int) -> Tensor:
    """Shift every band back and crop it: (B, bands, H, W + step * (bands - 1)) -> (B, bands, H, W)."""
    bands, height, wide = v.shape[1:]
    rows = F.pad(v.transpose(1, 2).flatten(2), (0, bands * step))
    scene = rows.reshape(-1, height, bands, wide + step)[..., : wide - step * (bands - 1)]
    return scene.transpose(1, 2)
