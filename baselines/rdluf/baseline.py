"""RDLUF-MixS2, written anew from Dong, Gao, Qiu, Li, Yang and Shi, "Residual Degradation Learning Unfolding Framework
with Mixing Priors across Spectral and Spatial for Compressive Spectral Imaging", CVPR 2023, section 3: gradient steps
with the known operator plus a learned residual, and transformers in which a spectral and a spatial branch weigh each
other. All stages between the first and the last share their weights."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorun.physics.cassi import CASSI
from lorun.plugins.cassi import needs_cassi, on_detector, on_scene
from lorun.plugins.padding import pad_to_multiple

STAGES = 9
WIDTH = 28  # features at full size, doubled with each halving
MULTIPLE = 8
HIDDEN = 64  # features of the learned residual
EXPANSION = 2.66


class Features(NamedTuple):
    """What a stage hands to the next one, besides its scene: (B, WIDTH * 2^i, H/2^i, W/2^i), i from 0."""

    encoded: tuple[Tensor, Tensor]
    bottom: Tensor
    decoded: tuple[Tensor, Tensor]


class Norm(nn.Module):
    """The features of each pixel by their standard deviation, with a weight each and no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, h: Tensor) -> Tensor:
        deviation = (h.var(dim=1, keepdim=True, correction=0) + 1e-5).sqrt()
        return h / deviation * self.weight[:, None, None]


class GradientStep(nn.Module):
    """x - rho B^T (B x - y) with B = A + a residual, found from y and A, for each detector pixel and band.

    As in the authors' program, B x and y are sums over bands times 2 / bands, and B^T is without that factor.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.step_size = nn.Parameter(torch.full((1,), 0.5))
        self.residual = nn.Sequential(mixing(channels + 1, channels), mixing(channels, channels))

    def operator(self, y: Tensor, physics: CASSI) -> Tensor:
        """The transmission of B for each band, (B, bands, H, W); y as `scaled`."""
        with torch.autocast(y.device.type, enabled=False):
            windows = physics.shift_back(y)
            mask = physics.aperture(*windows.shape[2:]).expand_as(windows)
            learned = self.residual(torch.cat([y, on_detector(mask, physics.step)], dim=1))
            return mask + on_scene(learned, physics.step)

    def forward(self, x: Tensor, y: Tensor, transmission: Tensor, physics: CASSI) -> Tensor:
        with torch.autocast(y.device.type, enabled=False):
            residual = physics.shift(x.to(y.dtype) * transmission) * (2 / physics.bands) - y
            return x - self.step_size * (physics.shift_back(residual) * transmission)


class SpectralAttention(nn.Module):
    """Feature maps attend to feature maps, by the cosine of their angle, where `gate` (B, 1, H, W) lets them."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        width = heads * WIDTH
        self.norm = Norm(width)
        self.features = nn.Sequential(conv1x1(width, 3 * width), depthwise(3 * width))
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.out = conv1x1(width, width)

    def forward(self, h: Tensor, gate: Tensor) -> Tensor:
        # (B, heads, WIDTH, H * W) each
        query, key, value = (
            (f * gate).flatten(2).unflatten(1, (-1, WIDTH)) for f in self.features(self.norm(h)).chunk(3, dim=1)
        )
        weights = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).mT * self.temperature
        attended = weights.softmax(dim=-1) @ value
        out: Tensor = self.out(attended.reshape(h.shape))
        return out


class MultiScaleConvolutions(nn.Module):
    """Four ways in parallel, of a quarter of the features each: 1x1, 3x3, twice 3x3, and 1x1 of the mean of 3x3 pixels.

    The 3x3 convolutions are depthwise, on a sixth or a quarter of the features; GELU follows every convolution.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        quarter, sixth = width // 4, width // 6
        self.norm = Norm(width)
        self.point = activated(conv1x1(width, quarter))
        self.small = activated(conv1x1(width, sixth), depthwise(sixth), conv1x1(sixth, quarter))
        self.large = activated(
            conv1x1(width, sixth),
            depthwise(sixth),
            conv1x1(sixth, quarter),
            depthwise(quarter),
            conv1x1(quarter, quarter),
        )
        self.smooth = nn.Sequential(
            nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False), activated(conv1x1(width, quarter))
        )

    def forward(self, h: Tensor) -> Tensor:
        h = self.norm(h)
        return torch.cat([self.point(h), self.small(h), self.large(h), self.smooth(h)], dim=1)


class GatedFeedForward(nn.Module):
    """gelu(a) b with a and b from a 1x1 and a depthwise 3x3 convolution, then a 1x1 convolution back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = int(EXPANSION * width)
        self.norm = Norm(width)
        self.features = nn.Sequential(conv1x1(width, 2 * inner), depthwise(2 * inner))
        self.out = conv1x1(inner, width)

    def forward(self, h: Tensor) -> Tensor:
        a, b = self.features(self.norm(h)).chunk(2, dim=1)
        out: Tensor = self.out(F.gelu(a) * b)
        return out


class MixingBlock(nn.Module):
    """Both branches on the same features, each weighing the other, then the feed-forward layers; (B, C, H, W) -> same.

    The spatial one says where the spectral one attends, the spectral one which feature maps of the spatial one count.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        width = heads * WIDTH
        self.spatial = MultiScaleConvolutions(width)
        self.where = conv1x1(width, 1)
        self.spectral = SpectralAttention(heads)
        self.which = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            conv1x1(width, width // 8),
            Norm(width // 8),
            nn.GELU(),
            conv1x1(width // 8, width),
            nn.Sigmoid(),
        )
        self.out = conv1x1(width, width)
        self.feed_forward = GatedFeedForward(width)

    def forward(self, h: Tensor) -> Tensor:
        spatial = self.spatial(h)
        spectral = self.spectral(h, self.where(spatial))
        spatial = self.out(F.gelu(spatial) * self.which(spectral))
        h = (h + spatial) + (h + spectral)
        out: Tensor = h + self.feed_forward(h)
        return out


class BlockInteraction(nn.Module):
    """What a decoder is handed on one scale: what the encoder has on all three, brought to that size and mixed."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        width = WIDTH * 2**scale
        self.layers = nn.Sequential(conv1x1(7 * WIDTH, width), nn.GELU(), conv3x3(width, width))

    def forward(self, *features: Tensor) -> Tensor:
        out: Tensor = self.layers(torch.cat(features, dim=1))
        return out


class StageInteraction(nn.Module):
    """s h + t, with s and t for every feature and pixel from what the stage before encoded and decoded on the scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.from_encoder = conv1x1(width, width)
        self.from_decoder = conv1x1(width, width)
        self.scale = depthwise(width)
        self.offset = depthwise(width)

    def forward(self, h: Tensor, encoded: Tensor, decoded: Tensor) -> Tensor:
        before = F.gelu(self.from_encoder(encoded) + self.from_decoder(decoded))
        out: Tensor = torch.sigmoid(self.scale(before)) * h + self.offset(before)
        return out


class MixingTransformer(nn.Module):
    """x + a U-Net of three resolutions; it takes features, where there is a stage before it, and gives its own."""

    def __init__(self, channels: int, informed: bool) -> None:
        super().__init__()
        widths = (WIDTH, 2 * WIDTH, 4 * WIDTH)
        self.embedding = conv1x1(channels, WIDTH)
        self.encode = nn.ModuleList([MixingBlock(1), MixingBlock(2)])
        self.halve = nn.ModuleList([conv3x3(WIDTH, 2 * WIDTH), conv3x3(2 * WIDTH, 4 * WIDTH)])
        self.bottom = MixingBlock(4)
        self.hand_over = nn.ModuleList([BlockInteraction(0), BlockInteraction(1)])
        self.enlarge = nn.ModuleList([conv3x3(2 * WIDTH, WIDTH), conv3x3(4 * WIDTH, 2 * WIDTH)])
        self.merge = nn.ModuleList([conv3x3(2 * WIDTH, WIDTH), conv3x3(4 * WIDTH, 2 * WIDTH)])
        self.decode = nn.ModuleList([MixingBlock(1), MixingBlock(2)])
        self.mapping = conv1x1(WIDTH, channels)
        informed_widths = widths if informed else ()
        self.inform_encoder = nn.ModuleList(StageInteraction(width) for width in informed_widths)  # the bottom too
        self.inform_decoder = nn.ModuleList(StageInteraction(width) for width in informed_widths[:2])

    def forward(self, x: Tensor, before: Features | None) -> tuple[Tensor, Features]:
        height, width = x.shape[2:]
        full = self.encode[0](self.embedding(pad_to_multiple(x, MULTIPLE)))
        if before is not None:
            full = self.inform_encoder[0](full, before.encoded[0], before.decoded[0])
        half = self.encode[1](self.halve[0](halved(full)))
        if before is not None:
            half = self.inform_encoder[1](half, before.encoded[1], before.decoded[1])
        bottom = self.bottom(self.halve[1](halved(half)))
        if before is not None:
            bottom = self.inform_encoder[2](bottom, before.bottom, before.bottom)
        encoded = (
            self.hand_over[0](full, doubled(half), doubled(doubled(bottom))),
            self.hand_over[1](halved(full), half, doubled(bottom)),
        )
        decoded_half = self.decoded(1, bottom, encoded[1], before)
        decoded_full = self.decoded(0, decoded_half, encoded[0], before)
        x = x + self.mapping(decoded_full)[..., :height, :width]
        return x, Features(encoded, bottom, (decoded_full, decoded_half))

    def decoded(self, scale: int, coarse: Tensor, encoded: Tensor, before: Features | None) -> Tensor:
        h = torch.cat([self.enlarge[scale](doubled(coarse)), encoded], dim=1)
        h = self.decode[scale](self.merge[scale](h))
        if before is not None:
            h = self.inform_decoder[scale](h, before.encoded[scale], before.decoded[scale])
        return h


class Stage(nn.Module):
    """A gradient step, then the proximal mapping."""

    def __init__(self, channels: int, informed: bool = True) -> None:
        super().__init__()
        self.gradient_step = GradientStep(channels)
        self.transformer = MixingTransformer(channels, informed)


class Baseline(nn.Module):
    """A first stage of 585,359 parameters, seven with 631,167 in common and a last one of 631,167, with 28 bands."""

    def __init__(self, physics: CASSI, channels: int, stages: int = STAGES) -> None:
        super().__init__()
        self.stages = stages
        self.first = Stage(channels, informed=False)
        self.body = Stage(channels)
        self.last = Stage(channels)

    unsupported = staticmethod(needs_cassi)

    def forward(self, y: Tensor, physics: CASSI) -> Tensor:
        y = scaled(y, physics)
        x = physics.shift_back(y)
        features = None
        for stage, times in ((self.first, 1), (self.body, self.stages - 2), (self.last, 1)):
            transmission = stage.gradient_step.operator(y, physics)
            for _ in range(times):
                x = stage.gradient_step(x, y, transmission, physics)
                x, features = stage.transformer(x, features)
        return x


def scaled(y: Tensor, physics: CASSI) -> Tensor:
    """y in the authors' units, the sum over bands times 2 / bands, whatever the operator's scaling."""
    return y * (2 / physics.bands / physics.gain)


def halved(h: Tensor) -> Tensor:
    """Half the size, bilinear; the mean of 2x2 pixels."""
    return F.avg_pool2d(h, 2)


def doubled(h: Tensor) -> Tensor:
    """Twice the size, bilinear."""
    return F.interpolate(h, scale_factor=2, mode="bilinear")


def mixing(inside: int, outside: int) -> nn.Sequential:
    """1x1 to HIDDEN features, depthwise 3x3, 1x1."""
    return nn.Sequential(conv1x1(inside, HIDDEN), nn.GELU(), depthwise(HIDDEN), nn.GELU(), conv1x1(HIDDEN, outside))


def activated(*convs: nn.Conv2d) -> nn.Sequential:
    """Each with GELU."""
    return nn.Sequential(*(layer for conv in convs for layer in (conv, nn.GELU())))


def conv1x1(inside: int, outside: int) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 1, bias=False)


def conv3x3(inside: int, outside: int) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 3, padding=1, bias=False)


def depthwise(width: int) -> nn.Conv2d:
    """3x3."""
    return nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
