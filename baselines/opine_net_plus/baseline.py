"""OPINE-Net+, written anew from Zhang, Zhao and Gao, "Optimization-Inspired Compact Deep Compressive Sensing", IEEE
JSTSP 2020, sections III and IV: ISTA-Net+ on the whole image instead of single blocks, with more convolutions to
restore, so that blocks see each other; for a learned binary Phi, whose adjoint gives the initial reconstruction."""

from torch import Tensor, nn

from lorun.physics.block_cs import BlockCS
from lorun.plugins.block_cs import cut, needs_block_cs
from lorun.plugins.ista import FEATURES, STAGES, Stage, conv3x3, two_convs
from lorun.unfolding import initial_reconstruction


class OPINEStage(Stage):
    """r = x - rho A^T(A x - y);  x = r + G(H~(soft(H(D(r)), theta))), G being three 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.extract = conv3x3(channels, FEATURES)
        self.forward_transform = two_convs()
        self.backward_transform = two_convs()
        self.restore = nn.Sequential(
            nn.ReLU(), conv3x3(FEATURES, FEATURES), nn.ReLU(), conv3x3(FEATURES, FEATURES), conv3x3(FEATURES, channels)
        )

    def proximal_step(self, r: Tensor) -> Tensor:
        shrunk = self.soft(self.forward_transform(self.extract(r)))
        x: Tensor = r + self.restore(self.backward_transform(shrunk))
        return x


class Baseline(nn.Module):
    """Nine stages of 55,874 parameters each with one channel."""

    def __init__(self, physics: BlockCS, channels: int) -> None:
        super().__init__()
        self.stages = STAGES
        self.unrolled = nn.ModuleList(OPINEStage(channels) for _ in range(STAGES))

    unsupported = staticmethod(needs_block_cs)

    def forward(self, y: Tensor, physics: BlockCS) -> Tensor:
        whole = physics.whole_blocks()
        x = initial_reconstruction(y, whole)
        for stage in self.unrolled:
            x = stage(x, y, whole)
        return cut(x, physics)
