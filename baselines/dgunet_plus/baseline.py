"""DGUNet+, written anew from Mou, Wang and Zhang, "Deep Generalized Unfolding Networks for Image Restoration", CVPR
2022, section 3: gradient steps with the known Phi, and a U-Net as proximal mapping at each stage, whose features on
every scale reach the next stage. The "+" is that no two stages share weights."""

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorun.physics.block_cs import BlockCS
from lorun.plugins.block_cs import back_projected_residual, cut, needs_block_cs
from lorun.unfolding import initial_reconstruction

STAGES = 7  # the first without features of an earlier one, the last without a U-Net
WIDTHS = (32, 48, 64, 80)  # of the U-Net, from full to an eighth of the size
FEATURES = WIDTHS[0]
TAIL = 48
REDUCTION = 4
MULTIPLE = 2 ** (len(WIDTHS) - 1)
SMALLEST = 2 * MULTIPLE  # instance normalisation asks for more than one pixel on the coarsest scale


class Memory(NamedTuple):
    """What a stage hands to the next one, besides its image: from fine to coarse, (B, WIDTHS[i], H/2^i, W/2^i)."""

    attended: Tensor  # (B, FEATURES, H, W)
    encoded: list[Tensor]  # (B, WIDTHS[i + 1], H/2^i, W/2^i)
    decoded: list[Tensor]  # (B, WIDTHS[i], H/2^i, W/2^i)


class GradientStep(nn.Module):
    """x + rho A^T(y - A x), padded by zeros on the right and below to a size that the U-Net can halve."""

    def __init__(self) -> None:
        super().__init__()
        self.step_size = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x: Tensor, y: Tensor, physics: BlockCS) -> Tensor:
        r = x + self.step_size * back_projected_residual(x, y, physics)
        missing = [max(side + -side % MULTIPLE, SMALLEST) - side for side in r.shape[2:]]
        return F.pad(r, (0, missing[1], 0, missing[0]))


class ChannelAttentionBlock(nn.Module):
    """h + w(g) g with g = conv(prelu(conv(h))) and one weight w per feature map, found from the means of g."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv3x3(width, width), nn.PReLU(), conv3x3(width, width))
        self.weights = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(width, width // REDUCTION, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(width // REDUCTION, width, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, h: Tensor) -> Tensor:
        g = self.body(h)
        out: Tensor = h + self.weights(g) * g
        return out


class TwoConvs(nn.Module):
    """Two 3x3 convolutions, each with a leaky ReLU, plus a 1x1 convolution of the input."""

    def __init__(self, inside: int, outside: int, half_norm: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, padding=1)
        self.norm = nn.InstanceNorm2d(outside // 2, affine=True) if half_norm else None  # of the first half of the maps
        self.second = nn.Conv2d(outside, outside, 3, padding=1)
        self.shortcut = nn.Conv2d(inside, outside, 1)

    def forward(self, h: Tensor) -> Tensor:
        g = self.first(h)
        if self.norm is not None:
            normed, kept = g.chunk(2, dim=1)
            g = torch.cat([self.norm(normed), kept], dim=1)
        g = F.leaky_relu(self.second(F.leaky_relu(g, 0.2)), 0.2)
        out: Tensor = g + self.shortcut(h)
        return out


class Encoder(nn.Module):
    """Features (B, WIDTHS[0], H, W) -> those on every scale before it is halved, and the coarsest ones.

    With `informed`, what the stage before encoded and decoded on a scale is added there.
    """

    def __init__(self, informed: bool) -> None:
        super().__init__()
        pairs = list(pairwise(WIDTHS))
        self.blocks = nn.ModuleList(TwoConvs(fine, coarse, half_norm=True) for fine, coarse in pairs)
        self.halve = nn.ModuleList(nn.Conv2d(coarse, coarse, 4, stride=2, padding=1, bias=False) for _, coarse in pairs)
        self.body = TwoConvs(WIDTHS[-1], WIDTHS[-1], half_norm=True)
        pairs = pairs if informed else []
        self.from_encoder = nn.ModuleList(nn.Conv2d(coarse, coarse, 3, padding=1) for _, coarse in pairs)
        self.from_decoder = nn.ModuleList(nn.Conv2d(fine, coarse, 3, padding=1) for fine, coarse in pairs)

    def forward(self, h: Tensor, memory: Memory | None = None) -> tuple[list[Tensor], Tensor]:
        encoded = []
        for scale, (block, halve) in enumerate(zip(self.blocks, self.halve, strict=True)):
            h = block(h)
            if memory is not None:
                h = h + self.from_encoder[scale](memory.encoded[scale])
                h = h + self.from_decoder[scale](memory.decoded[scale])
            encoded.append(h)
            h = halve(h)
        return encoded, self.body(h)


class Decoder(nn.Module):
    """The coarsest features, and those encoded on every scale -> decoded ones on every scale, from fine to coarse."""

    def __init__(self) -> None:
        super().__init__()
        pairs = list(pairwise(WIDTHS))
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairs)
        self.skip = nn.ModuleList(nn.Conv2d(coarse, fine, 3, padding=1) for fine, coarse in pairs)
        self.blocks = nn.ModuleList(TwoConvs(2 * fine, fine) for fine, _ in pairs)

    def forward(self, h: Tensor, encoded: list[Tensor]) -> list[Tensor]:
        decoded: list[Tensor] = []
        for scale in reversed(range(len(self.blocks))):
            h = torch.cat([self.enlarge[scale](h), self.skip[scale](encoded[scale])], dim=1)
            h = self.blocks[scale](h)
            decoded.insert(0, h)
        return decoded


class SupervisedAttention(nn.Module):
    """x = r + an image of the features; x decides which features go on: (B, F, H, W), (B, C, H, W) -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(FEATURES, FEATURES, 1, bias=False)
        self.to_image = nn.Conv2d(FEATURES, channels, 1, bias=False)
        self.to_gate = nn.Conv2d(channels, FEATURES, 1, bias=False)

    def forward(self, h: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        x = r + self.to_image(h)
        return h + self.features(h) * torch.sigmoid(self.to_gate(x)), x


class DGUStage(nn.Module):
    """A gradient step, then the proximal mapping; it takes and gives features, where there is a stage before it."""

    def __init__(self, channels: int, informed: bool) -> None:
        super().__init__()
        self.gradient_step = GradientStep()
        self.shallow = shallow_features(channels)
        self.merge = conv3x3(2 * FEATURES, FEATURES) if informed else None
        self.encoder = Encoder(informed)
        self.decoder = Decoder()
        self.attention = SupervisedAttention(channels)

    def forward(self, x: Tensor, memory: Memory | None, y: Tensor, physics: BlockCS) -> tuple[Tensor, Memory]:
        height, width = x.shape[2:]
        r = self.gradient_step(x, y, physics)
        h = self.shallow(r)
        if self.merge is not None and memory is not None:
            h = self.merge(torch.cat([h, memory.attended], dim=1))
        encoded, h = self.encoder(h, memory)
        decoded = self.decoder(h, encoded)
        attended, x = self.attention(decoded[0], r)
        return x[..., :height, :width], Memory(attended, encoded, decoded)


class LastStage(nn.Module):
    """A gradient step, and two convolutions of its features and those of the stage before."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gradient_step = GradientStep()
        self.shallow = shallow_features(channels)
        self.merge = conv3x3(2 * FEATURES, TAIL)
        self.tail = conv3x3(TAIL, channels)

    def forward(self, x: Tensor, memory: Memory, y: Tensor, physics: BlockCS) -> Tensor:
        height, width = x.shape[2:]
        r = self.gradient_step(x, y, physics)
        h = self.merge(torch.cat([self.shallow(r), memory.attended], dim=1))
        out: Tensor = r + self.tail(h)
        return out[..., :height, :width]


class Baseline(nn.Module):
    """Seven stages: 902,770 parameters, five times 1,124,338, and 47,314, with one channel."""

    def __init__(self, physics: BlockCS, channels: int) -> None:
        super().__init__()
        self.stages = STAGES
        self.unrolled = nn.ModuleList(DGUStage(channels, informed=stage > 0) for stage in range(STAGES - 1))
        self.last = LastStage(channels)

    unsupported = staticmethod(needs_block_cs)

    def forward(self, y: Tensor, physics: BlockCS) -> Tensor:
        whole = physics.whole_blocks()
        x = initial_reconstruction(y, whole)
        memory = None
        for stage in self.unrolled:
            x, memory = stage(x, memory, y, whole)
        return cut(self.last(x, memory, y, whole), physics)


def conv3x3(inside: int, outside: int) -> nn.Conv2d:
    """Zero padding, no bias."""
    return nn.Conv2d(inside, outside, 3, padding=1, bias=False)


def shallow_features(channels: int) -> nn.Sequential:
    return nn.Sequential(conv3x3(channels, FEATURES), ChannelAttentionBlock(FEATURES))
