"""The initial reconstruction where it is fitted on images: the linear minimum mean square error estimate."""

from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from lorun.physics import Operator
from lorun.unfolding import initial_reconstruction


class Baseline(nn.Module):
    """x_0, linear in y and fitted on training blocks; nothing else is trained."""

    def __init__(self, physics: LinearPhysics, channels: int) -> None:
        super().__init__()

    @classmethod
    def unsupported(cls, physics: LinearPhysics, channels: int) -> str | None:
        if not hasattr(physics, "initial_reconstruction"):
            return f"{type(physics).__name__} has no initial reconstruction"
        if isinstance(physics, Operator) and type(physics).fit is Operator.fit:
            return f"the initial reconstruction of {type(physics).__name__} is not fitted on images"
        return None

    def forward(self, y: Tensor, physics: LinearPhysics) -> Tensor:
        return initial_reconstruction(y, physics)
