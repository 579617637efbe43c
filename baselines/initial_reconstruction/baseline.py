"""The setting's own first estimate, whatever it is: what every network here starts from, and has to beat."""

from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from lorun.unfolding import initial_reconstruction


class Baseline(nn.Module):
    """x_0; nothing is trained."""

    def __init__(self, physics: LinearPhysics, channels: int) -> None:
        super().__init__()

    @classmethod
    def unsupported(cls, physics: object, channels: int) -> str | None:
        return None if isinstance(physics, LinearPhysics) else f"{type(physics).__name__} is not linear"

    def forward(self, y: Tensor, physics: LinearPhysics) -> Tensor:
        return initial_reconstruction(y, physics)
