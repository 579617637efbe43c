"""ISTA-Net+, written anew from Zhang and Ghanem, "ISTA-Net: Interpretable Optimization-Inspired Deep Network for Image
Compressive Sensing", CVPR 2018, section 3.3: soft thresholding in a learned transform domain of the residual."""

from torch import Tensor

from lorun.physics.block_cs import BlockCS
from lorun.plugins.ista import FEATURES, STAGES, BlockwiseISTA, Stage, conv3x3, two_convs


class ISTAPlusStage(Stage):
    """r = x - rho A^T(A x - y);  x = r + G(H~(soft(H(D(r)), theta))), D, H, H~ and G being 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.extract = conv3x3(channels, FEATURES)
        self.forward_transform = two_convs()
        self.backward_transform = two_convs()
        self.restore = conv3x3(FEATURES, channels)

    def proximal_step(self, r: Tensor) -> Tensor:
        shrunk = self.soft(self.forward_transform(self.extract(r)))
        x: Tensor = r + self.restore(self.backward_transform(shrunk))
        return x


class Baseline(BlockwiseISTA):
    """Nine stages of 37,442 parameters each with one channel."""

    def __init__(self, physics: BlockCS, channels: int) -> None:
        super().__init__(ISTAPlusStage(channels) for _ in range(STAGES))
