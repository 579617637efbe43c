"""USRNet, as published: see `lorun.plugins.usrnet`."""

from lorun.physics.blur_downsample import BlurDownsample
from lorun.plugins.usrnet import USRNet


class Baseline(USRNet):
    """Eight data steps and eight passes through one denoiser."""

    def __init__(self, physics: BlurDownsample, channels: int, stages: int = 8) -> None:
        super().__init__(channels, stages, widths=(64, 128, 256, 512), hidden=64)
