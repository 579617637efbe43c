"""ISTA-Net+, written anew from Zhang and Ghanem, "ISTA-Net: Interpretable Optimization-Inspired Deep Network for Image
Compressive Sensing", CVPR 2018, section 3.3: soft thresholding in a learned transform domain of the residual."""

import torch
import torch.nn.functional as F
from deepinv.physics import LinearPhysics
from torch import Tensor, nn

from lorun.unfolding import initial_estimate

STAGES = 9
FEATURES = 32


class Stage(nn.Module):
    """r = x - rho A^T(A x - y);  x = r + G(H~(soft(H(D(r)), theta))), D, H, H~ and G being 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.step_size = nn.Parameter(torch.tensor(0.5))
        self.threshold = nn.Parameter(torch.tensor(0.01))
        self.extract = _conv(channels, FEATURES)
        self.forward_transform = nn.Sequential(_conv(FEATURES, FEATURES), nn.ReLU(), _conv(FEATURES, FEATURES))
        self.backward_transform = nn.Sequential(_conv(FEATURES, FEATURES), nn.ReLU(), _conv(FEATURES, FEATURES))
        self.restore = _conv(FEATURES, channels)

    def forward(self, x: Tensor, y: Tensor, physics: LinearPhysics) -> Tensor:
        with torch.autocast(y.device.type, enabled=False):
            x = x.to(y.dtype)
            r = x - self.step_size * physics.A_adjoint(physics.A(x) - y)
        coefficients = self.forward_transform(self.extract(r))
        shrunk = torch.sign(coefficients) * F.relu(coefficients.abs() - self.threshold)
        return r + self.restore(self.backward_transform(shrunk))


class Baseline(nn.Module):
    """Nine stages, 37,442 parameters each with one channel."""

    def __init__(self, physics: LinearPhysics, channels: int) -> None:
        super().__init__()
        self.stages = STAGES
        self.unrolled = nn.ModuleList(Stage(channels) for _ in range(STAGES))

    @classmethod
    def declines(cls, physics: LinearPhysics, channels: int) -> str | None:
        return None

    def forward(self, y: Tensor, physics: LinearPhysics) -> Tensor:
        x = initial_estimate(y, physics)
        for stage in self.unrolled:
            x = stage(x, y, physics)
        return x


def _conv(inside: int, outside: int) -> nn.Conv2d:
    conv = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
    nn.init.xavier_normal_(conv.weight)
    return conv
