"""USRNet, as published: see `baselines.usrnet_family`."""

from baselines.usrnet_family import USRNet
from lorun.physics import BlurDownsample


class Baseline(USRNet):
    """Eight data steps and eight passes through one denoiser."""

    def __init__(self, physics: BlurDownsample, channels: int, stages: int = 8) -> None:
        super().__init__(channels, stages, widths=(64, 128, 256, 512), hidden=64)
