"""The initial reconstruction of the setting: where every network starts, and what it has to beat."""

from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from lorun.plugins.wrappers import needs_linear
from lorun.unfolding import initial_reconstruction


class Baseline(nn.Module):
    """x_0; nothing is trained."""

    def __init__(self, physics: LinearPhysics, channels: int) -> None:
        super().__init__()

    unsupported = staticmethod(needs_linear)

    def forward(self, y: Tensor, physics: LinearPhysics) -> Tensor:
        return initial_reconstruction(y, physics)
