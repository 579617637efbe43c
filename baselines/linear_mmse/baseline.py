"""The initial estimate of the physics alone: what every network here starts from, and has to beat."""

from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from lorun.physics import Operator
from lorun.unfolding import initial_reconstruction


class Baseline(nn.Module):
    """x_0, the estimate that is linear in y and fitted on training blocks; nothing is trained."""

    def __init__(self, physics: LinearPhysics, channels: int) -> None:
        super().__init__()

    @classmethod
    def unsupported(cls, physics: LinearPhysics, channels: int) -> str | None:
        if not hasattr(physics, "initial_reconstruction"):
            return f"{type(physics).__name__} has no initial estimate"
        if isinstance(physics, Operator) and type(physics).fit is Operator.fit:
            return f"the initial estimate of {type(physics).__name__} is not fitted on images"
        return None

    def forward(self, y: Tensor, physics: LinearPhysics) -> Tensor:
        return initial_reconstruction(y, physics)
