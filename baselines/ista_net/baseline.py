"""ISTA-Net, written anew from Zhang and Ghanem, "ISTA-Net: Interpretable Optimization-Inspired Deep Network for Image
Compressive Sensing", CVPR 2018, section 3.2: soft thresholding in a learned transform domain of the image."""

from torch import Tensor

from lorun.physics.block_cs import BlockCS
from lorun.plugins.ista import STAGES, BlockwiseISTA, Stage, two_convs


class ISTAStage(Stage):
    """r = x - rho A^T(A x - y);  x = H~(soft(H(r), theta)), H and H~ being two 3x3 convolutions each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.forward_transform = two_convs(channels)
        self.backward_transform = two_convs(out=channels)

    def proximal_step(self, r: Tensor) -> Tensor:
        x: Tensor = self.backward_transform(self.soft(self.forward_transform(r)))
        return x


class Baseline(BlockwiseISTA):
    """Nine stages of 19,010 parameters each with one channel."""

    def __init__(self, physics: BlockCS, channels: int) -> None:
        super().__init__(ISTAStage(channels) for _ in range(STAGES))
