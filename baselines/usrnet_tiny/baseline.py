"""The small USRNet of its authors: see `lorun.plugins.usrnet`."""

from lorun.physics.blur_downsample import BlurDownsample
from lorun.plugins.usrnet import USRNet


class Baseline(USRNet):
    """Six data steps and six passes through one denoiser."""

    def __init__(self, physics: BlurDownsample, channels: int, stages: int = 6) -> None:
        super().__init__(channels, stages, widths=(16, 32, 64, 64), hidden=32)
