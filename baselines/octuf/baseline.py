"""OCTUF, written anew from Song, Mou, Wang, Ma and Zhang, "Optimization-Inspired Cross-Attention Transformer for
Compressive Sensing", CVPR 2023, section 3: an image and 31 feature maps go through ten stages; attention between
feature maps of successive stages gives the descent inertia, and attention to the projected image guides it."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from lorun.physics.block_cs import BlockCS
from lorun.plugins.block_cs import back_projected_residual, cut, needs_block_cs
from lorun.plugins.full_precision import ImageConv
from lorun.unfolding import initial_reconstruction

STAGES = 10
WIDTH = 32  # image and feature maps
EXPANSION = 4


class LayerNorm(nn.LayerNorm):
    """Over the channels of each pixel: (B, C, H, W) -> same."""

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h.movedim(1, -1)).movedim(-1, 1)


class InertiaSuppliedCrossAttention(nn.Module):
    """Features of this stage ask, those of the stage before answer."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm_now = LayerNorm(features)
        self.norm_before = LayerNorm(features)
        self.query = projection(features, features)
        self.key_and_value = projection(features, 2 * features)
        self.out = nn.Conv2d(features, features, 1)

    def forward(self, before: Tensor, now: Tensor) -> Tensor:
        key, value = self.key_and_value(self.norm_before(before)).chunk(2, dim=1)
        out: Tensor = now + self.out(channel_attention(self.query(self.norm_now(now)), key, value))
        return out


class ProjectionGuidedCrossAttention(nn.Module):
    """Features ask, the image after its gradient step answers; both are mixed: (B, C, H, W), (B, F, H, W) -> C+F."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.norm = LayerNorm(features)
        self.query = projection(features, features)
        self.key = projection(channels, features)
        self.value = projection(features, features)
        self.position = nn.Sequential(depthwise(features, bias=False), nn.GELU(), depthwise(features, bias=False))
        self.out = nn.Conv2d(features, features, 1)
        self.mix = ImageConv(channels + features, channels + features, 1)

    def forward(self, r: Tensor, z: Tensor) -> Tensor:
        normed = self.norm(z)
        value = self.value(normed)
        attended = channel_attention(self.query(normed), self.key(r), value)
        z = z + self.out(attended) + self.position(value)
        out: Tensor = self.mix(torch.cat([r, z], dim=1))
        return out


class FeedForward(nn.Module):
    """h + the transformer's two layers on LayerNorm(h), with a depthwise 3x3 convolution between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = EXPANSION * width
        self.layers = nn.Sequential(
            LayerNorm(width),
            nn.Conv2d(width, inner, 1, bias=False),
            nn.GELU(),
            depthwise(inner, bias=False),
            nn.GELU(),
            nn.Conv2d(inner, width, 1, bias=False),
        )

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = h + self.layers(h)
        return out


class OCTStage(nn.Module):
    """r = x + rho A^T(y - A x);  h = PGCA(r, ISCA(z before, z));  h + FF(FF(h)) holds the new x and z."""

    def __init__(self, channels: int, features: int) -> None:
        super().__init__()
        self.step_size = nn.Parameter(torch.full((1,), 0.5))
        self.inertia = InertiaSuppliedCrossAttention(features)
        self.guidance = ProjectionGuidedCrossAttention(channels, features)
        self.feed_forward = nn.Sequential(FeedForward(channels + features), FeedForward(channels + features))

    def forward(self, x: Tensor, before: Tensor, now: Tensor, y: Tensor, physics: BlockCS) -> tuple[Tensor, Tensor]:
        r = x + self.step_size * back_projected_residual(x, y, physics)
        h = self.guidance(r, self.inertia(before, now))  # (B, C+F, H, W)
        h = h + self.feed_forward(h)
        return h[:, : x.shape[1]], h[:, x.shape[1] :]


class Baseline(nn.Module):
    """Ten stages of 29,483 parameters each with one channel."""

    def __init__(self, physics: BlockCS, channels: int) -> None:
        super().__init__()
        self.stages = STAGES
        features = WIDTH - channels
        self.before = nn.Conv2d(channels, features, 3, padding=1)
        self.now = nn.Conv2d(channels, features, 3, padding=1)
        self.unrolled = nn.ModuleList(OCTStage(channels, features) for _ in range(STAGES))

    unsupported = staticmethod(needs_block_cs)

    def forward(self, y: Tensor, physics: BlockCS) -> Tensor:
        whole = physics.whole_blocks()
        x = initial_reconstruction(y, whole)
        before, now = self.before(x), self.now(x)  # (B, C, H, W) -> (B, F, H, W)
        for stage in self.unrolled:
            x, new = stage(x, before, now, y, whole)
            before, now = now, new
        return cut(x, physics)


def channel_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Feature maps attend to feature maps, by the cosine of their angle: (B, F, H, W) each -> same."""
    weights = normalize(query.flatten(2), dim=-1) @ normalize(key.flatten(2), dim=-1).mT  # (B, F, F)
    return (weights.softmax(dim=-1) @ value.flatten(2)).reshape(value.shape)


def projection(inside: int, outside: int) -> nn.Sequential:
    """1x1 convolution, then a depthwise one."""
    return nn.Sequential(nn.Conv2d(inside, outside, 1), depthwise(outside))


def depthwise(width: int, bias: bool = True) -> nn.Conv2d:
    """3x3."""
    return nn.Conv2d(width, width, 3, padding=1, groups=width, bias=bias)
