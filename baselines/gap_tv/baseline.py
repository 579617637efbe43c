"""GAP-TV, see `lorun.physics._gap_tv`."""

from torch import Tensor, nn

from lorun.physics._gap_tv import gap_tv
from lorun.physics.cassi import CASSI
from lorun.plugins.cassi import needs_cassi

STRENGTH = 0.1
"""Of total variation, for values in [0, 1]."""

ITERATIONS = 120
"""Both were chosen on training and validation scenes of CAVE, see `workflow/tune_options.py`; 160 iterations gain
0.02 dB."""


class Baseline(nn.Module):
    """Nothing is trained."""

    data_dependent = True  # scikit-image works on arrays, not on tensors

    def __init__(self, physics: CASSI, channels: int, strength: float = STRENGTH, iterations: int = ITERATIONS) -> None:
        super().__init__()
        self.strength = strength
        self.stages = iterations

    unsupported = staticmethod(needs_cassi)

    def forward(self, y: Tensor, physics: CASSI) -> Tensor:
        return gap_tv(y, physics, self.strength, self.stages)
