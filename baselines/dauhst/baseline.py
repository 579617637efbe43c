"""DAUHST, written anew from Cai, Lin, Wang, Yuan, Ding, Zhang, Timofte and Van Gool, "Degradation-Aware Unfolding
Half-Shuffle Transformer for Spectral Compressive Imaging", NeurIPS 2022, section 3: half-quadratic splitting whose
constants a network estimates from measurement and mask, and a transformer at each stage, half of whose heads attend
within windows and the other half across them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorun.physics.cassi import CASSI
from lorun.plugins.cassi import needs_cassi, on_detector, on_scene
from lorun.plugins.full_precision import ImageConv
from lorun.plugins.padding import pad_to_multiple

STAGES = 9
WIDTH = 28  # features at full size, and of a head
WINDOW = 8
LEVELS = 3  # resolutions
MULTIPLE = WINDOW * 2 ** (LEVELS - 1)
LARGEST = (256, 320)  # the scene that the tables of positions are made for, the authors' on the detector
EXPANSION = 4
HIDDEN = 64  # features of the estimator
SMALLEST = 1e-6  # of what it estimates


class Estimator(nn.Module):
    """alpha and beta of every stage, from what measurement and mask are fused to: (B, C, H, W) -> 2 x (stages, B)."""

    def __init__(self, channels: int, stages: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, HIDDEN, 1), nn.ReLU(), nn.Conv2d(HIDDEN, HIDDEN, 3, stride=2, padding=1)
        )
        self.constants = nn.Sequential(
            nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * stages)
        )

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        constants = F.softplus(self.constants(self.features(h).mean((2, 3)))) + SMALLEST  # (B, 2 * stages)
        alpha, beta = constants.T.chunk(2)
        return alpha, beta


class HalfShuffleAttention(nn.Module):
    """(B, H, W, C) -> same, H and W whole windows.

    The first half of the heads attends within each window, the second half from a pixel of a window to the pixels at
    its place in all others. A single head does the former.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        width = heads * WIDTH
        self.within = max(1, heads // 2)
        self.across = heads - self.within
        self.features = nn.Linear(width, 3 * width, bias=False)  # queries, keys, values
        self.out = nn.Linear(width, width)
        self.place = nn.Parameter(table(self.within, WINDOW**2))
        height, width = (side // heads // WINDOW for side in LARGEST)  # there are as many heads as pixels to a side
        self.grid = (height, width)
        self.window = nn.Parameter(table(self.across, height * width)) if self.across else None
        for layer in (self.features, self.out):
            nn.init.normal_(layer.weight, std=0.02)
        nn.init.zeros_(self.out.bias)

    def forward(self, h: Tensor) -> Tensor:
        grid = (h.shape[1] // WINDOW, h.shape[2] // WINDOW)
        tokens = windows(h)  # (B, N, 64, C), N windows
        features = self.features(tokens).unflatten(-1, (3, -1))
        split = self.within * WIDTH
        attended = attend(features[..., :split], self.place)
        if self.window is not None:
            shuffled = features[..., split:].transpose(1, 2)  # (B, 64, N, 3, C/2)
            across = attend(shuffled, resized(self.window, self.grid, grid)).transpose(1, 2)
            attended = torch.cat([attended, across], dim=-1)
        return whole(self.out(attended), grid)


class FeedForward(nn.Module):
    """The transformer's two layers with a depthwise 3x3 convolution between them: (B, H, W, C) -> same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = EXPANSION * width
        self.layers = nn.Sequential(
            nn.Conv2d(width, inner, 1, bias=False),
            nn.GELU(),
            nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False),
            nn.GELU(),
            nn.Conv2d(inner, width, 1, bias=False),
        )

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.layers(h.movedim(-1, 1)).movedim(1, -1)
        return out


class Block(nn.Module):
    """Attention, then the feed-forward layers, each added to its input: (B, C, H, W) -> same."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        width = heads * WIDTH
        self.attention = nn.Sequential(nn.LayerNorm(width), HalfShuffleAttention(heads))
        self.feed_forward = nn.Sequential(nn.LayerNorm(width), FeedForward(width))

    def forward(self, h: Tensor) -> Tensor:
        h = h.movedim(1, -1)
        h = h + self.attention(h)
        h = h + self.feed_forward(h)
        return h.movedim(-1, 1)


class HalfShuffleTransformer(nn.Module):
    """x + a U-Net of three resolutions, one block on each way: (B, C, H, W) and beta (B,) -> (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        heads = [2**level for level in range(LEVELS)]
        widths = [WIDTH * h for h in heads]
        fine, coarse = widths[:-1], widths[1:]
        self.embedding = nn.Conv2d(channels + 1, WIDTH, 3, padding=1, bias=False)
        self.encode = nn.ModuleList(Block(h) for h in heads[:-1])
        self.halve = nn.ModuleList(
            nn.Conv2d(f, c, 4, stride=2, padding=1, bias=False) for f, c in zip(fine, coarse, strict=True)
        )
        self.bottom = Block(heads[-1])
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(c, f, 2, stride=2) for f, c in zip(fine, coarse, strict=True))
        self.merge = nn.ModuleList(nn.Conv2d(2 * f, f, 1, bias=False) for f in fine)
        self.decode = nn.ModuleList(Block(h) for h in heads[:-1])
        self.mapping = nn.Conv2d(WIDTH, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor, beta: Tensor) -> Tensor:
        height, width = x.shape[2:]
        level = beta[:, None, None, None].expand(-1, 1, height, width)
        h = self.embedding(pad_to_multiple(torch.cat([x, level], dim=1), MULTIPLE))
        encoded = []
        for block, halve in zip(self.encode, self.halve, strict=True):
            h = block(h)
            encoded.append(h)
            h = halve(h)
        h = self.bottom(h)
        for scale in reversed(range(LEVELS - 1)):
            h = self.merge[scale](torch.cat([self.enlarge[scale](h), encoded[scale]], dim=1))
            h = self.decode[scale](h)
        out: Tensor = x + self.mapping(h)[..., :height, :width]
        return out


class Baseline(nn.Module):
    """x = z + A^T (y - A z) / (alpha + diag(A A^T)), then z = T(x, beta), T the transformer; the last z counts.

    The constants are those of a y that is the sum over bands itself, whatever the operator's scaling.
    """

    def __init__(self, physics: CASSI, channels: int, stages: int = STAGES) -> None:
        super().__init__()
        self.stages = stages
        self.fuse = ImageConv(2 * channels, channels, 1)
        self.estimator = Estimator(channels, stages)
        self.unrolled = nn.ModuleList(HalfShuffleTransformer(channels) for _ in range(stages))

    unsupported = staticmethod(needs_cassi)

    def forward(self, y: Tensor, physics: CASSI) -> Tensor:
        z, alphas, betas = self.initial_reconstruction(y, physics)
        for stage, alpha, beta in zip(self.unrolled, alphas, betas, strict=True):
            z = stage(data_step(z, y, physics, alpha), beta)
        return z

    def initial_reconstruction(self, y: Tensor, physics: CASSI) -> tuple[Tensor, Tensor, Tensor]:
        """The scene (B, C, H, W) that measurement and mask are fused to on the detector, and all alpha and beta."""
        windows_of_y = physics.shift_back(y) * (2 / physics.bands / physics.gain)
        mask = physics.aperture(*windows_of_y.shape[2:]).expand_as(windows_of_y)
        fused = self.fuse(torch.cat([on_detector(cube, physics.step) for cube in (windows_of_y, mask)], dim=1))
        with torch.autocast(y.device.type, enabled=False):
            alphas, betas = self.estimator(fused)
        return on_scene(fused, physics.step), alphas, betas


def data_step(z: Tensor, y: Tensor, physics: CASSI, alpha: Tensor) -> Tensor:
    """The x that minimises |y - A x|^2 + alpha |x - z|^2, A without its scaling; alpha (B,)."""
    with torch.autocast(y.device.type, enabled=False):
        z = z.to(y.dtype)
        norms = physics.row_norms(*z.shape[2:])
        residual = (y - physics.A(z)) / (physics.gain**2 * alpha[:, None, None, None] + norms)
        return z + physics.A_adjoint(residual)


def table(heads: int, tokens: int) -> Tensor:
    """What each pair of tokens adds to its weight, before any training: standard normal within (-2, 2).

    `torch.nn.init.trunc_normal_` looks at values, which fake tensors have not.
    """
    limit = math.erf(math.sqrt(2))
    return math.sqrt(2) * torch.empty(heads, tokens, tokens).uniform_(-limit, limit).erfinv_()


def resized(positions: Tensor, known: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """A table (heads, N, N) of pairs of windows for another grid, by linear interpolation along each side."""
    if known == grid:
        return positions
    heads, tokens, _ = positions.shape
    for _ in range(2):  # along one window of a pair, then along the other
        maps = positions.reshape(1, -1, *known)
        maps = F.interpolate(maps, size=grid, mode="bilinear", antialias=True)
        positions = maps.reshape(heads, tokens, -1).mT
        tokens = positions.shape[1]
    return positions


def attend(features: Tensor, positions: Tensor) -> Tensor:
    """Tokens attend to tokens: (B, N, T, 3, heads * WIDTH), (heads, T, T) -> (B, N, T, heads * WIDTH).

    The features are queries, keys and values.
    """
    query, key, value = (f.unflatten(-1, (-1, WIDTH)).transpose(2, 3) for f in features.unbind(-2))
    weights = (query @ key.mT * WIDTH**-0.5 + positions).softmax(dim=-1)  # (B, N, heads, T, T)
    return (weights @ value).transpose(2, 3).flatten(3)


def windows(h: Tensor) -> Tensor:
    """(B, H, W, C) -> (B, H/8 * W/8, 64, C)."""
    batch, height, width, channels = h.shape
    grid = h.reshape(batch, height // WINDOW, WINDOW, width // WINDOW, WINDOW, channels)
    return grid.transpose(2, 3).reshape(batch, -1, WINDOW**2, channels)


def whole(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """The reverse of `windows`, for a grid of H/8 x W/8 of them."""
    batch, _, _, channels = tokens.shape
    rows = tokens.reshape(batch, *grid, WINDOW, WINDOW, channels).transpose(2, 3)
    return rows.reshape(batch, grid[0] * WINDOW, grid[1] * WINDOW, channels)
