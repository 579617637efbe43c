"""Bicubic interpolation, after Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 1981:
what any method of super-resolution has to beat. It uses no knowledge of the blur kernel."""

from torch import Tensor, nn

from lorun.physics.blur_downsample import BlurDownsample, enlarged
from lorun.plugins.deblurring import needs_blur


class Baseline(nn.Module):
    """y enlarged; its pixels stay where decimation took them from. Nothing is trained."""

    def __init__(self, physics: BlurDownsample, channels: int) -> None:
        super().__init__()

    @classmethod
    def unsupported(cls, physics: object, channels: int) -> str | None:
        if isinstance(physics, BlurDownsample) and physics.scale == 1:
            return "at scale 1 there is nothing to enlarge"
        return needs_blur(physics, channels)

    def forward(self, y: Tensor, physics: BlurDownsample) -> Tensor:
        return enlarged(y, physics.scale, "bicubic", physics.scene_of(*y.shape[2:]))
