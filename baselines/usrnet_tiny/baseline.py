"""The small USRNet of its authors: see `baselines.usrnet_family`."""

from baselines.usrnet_family import USRNet
from lorun.physics import BlurDownsample


class Baseline(USRNet):
    """Six data steps and six passes through one denoiser."""

    def __init__(self, physics: BlurDownsample, channels: int, stages: int = 6) -> None:
        super().__init__(channels, stages, widths=(16, 32, 64, 64), hidden=32)
