"""Tikhonov's regularised least squares, with a penalty on the differences of neighbouring pixels; in closed form, see
`lorun.physics._tikhonov`."""

from torch import Tensor, nn

from lorun.physics._tikhonov import DIFFERENCE, tikhonov
from lorun.physics.blur_downsample import BlurDownsample
from lorun.plugins.deblurring import needs_blur


class Baseline(nn.Module):
    """Nothing is trained."""

    def __init__(self, physics: BlurDownsample, channels: int, difference: float = DIFFERENCE) -> None:
        super().__init__()
        self.difference = difference

    unsupported = staticmethod(needs_blur)

    def forward(self, y: Tensor, physics: BlurDownsample) -> Tensor:
        return tikhonov(y, physics, self.difference)
