"""A U-shaped transformer whose tokens are channels, after MST (Cai et al., "Mask-guided Spectral-wise Transformer",
CVPR 2022): attention over C channels costs as much per pixel as a linear layer, whatever the size of the image.

Without the mask branch, which belongs to the physics. Upsampling is as in `lorun.denoisers.unet`; skips are added.
"""

from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from lorun.denoisers.base import DenoiserSection, UShape, start_small

_EXPANSION = 4  # channels within a feed-forward, over those around it
_SHORTEST = 1e-12  # lower bound of the product of two channels' lengths, against 0 / 0 in their cosine


def attend(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
    """Channel i of the output is sum_j softmax_j(temperature * cos(q_i, k_j)) v_j: all (B, N, d), over N pixels.

    Cosines and softmax are computed in float32 at least; no normalised copies of q and k are kept.
    """
    exact = torch.promote_types(q.dtype, torch.float32)
    lengths = [torch.linalg.vector_norm(channels, dim=1, dtype=exact) for channels in (k, q)]  # (B, d) each
    cosines = (k.mT @ q).to(exact) / (lengths[0][:, :, None] * lengths[1][:, None, :]).clamp_min(_SHORTEST)
    attention = torch.softmax(temperature * cosines, dim=1)  # (B, d, d): of j for each i
    return v @ attention.to(v.dtype)


class SpectralAttention(nn.Module):
    """Self-attention among the channels of each head, plus a convolutional positional branch: (B, H, W, C) -> same.

    Projections are linear layers on the last axis. Matrices of attention and images of the positional branch are views
    of tensors in channels-last order.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.temperature = nn.Parameter(torch.ones(heads))
        self.position = nn.Sequential(_depthwise(width), nn.GELU(), _depthwise(width))
        self.out = nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        q, k, v = self.query(h), self.key(h), self.value(h)
        # Head by head: a product of all at once needs copies of q, k and v with the heads in front of the pixels.
        by_head = (part.flatten(1, 2).chunk(len(self.temperature), dim=-1) for part in (q, k, v))  # (B, N, d) each
        heads = [attend(*head) for head in zip(*by_head, self.temperature, strict=True)]
        mixed = heads[0] if len(heads) == 1 else torch.cat(heads, dim=-1)
        return self.out(mixed.view(h.shape)) + _to_tokens(self.position(_to_image(v)))


class PixelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel: (B, H, W, C) -> same.

    Half precision in gives half precision out, under autocast too: the next layer would round it anyway, in a copy. The
    kernels compute in float32.
    """

    def forward(self, h: Tensor) -> Tensor:
        with torch.autocast(h.device.type, enabled=False):
            return F.layer_norm(h, self.normalized_shape, self.weight.to(h.dtype), self.bias.to(h.dtype), self.eps)


class SpectralBlock(nn.Module):
    """h + attention(norm(h)), then h + feed_forward(norm(h)): (B, C, H, W) -> same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        inner = _EXPANSION * width
        self.first_norm = PixelNorm(width)
        self.attention = SpectralAttention(width, heads)
        self.second_norm = PixelNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Conv2d(width, inner, 1, bias=False),
            nn.GELU(),
            _depthwise(inner),
            nn.GELU(),
            nn.Conv2d(inner, width, 1, bias=False),
        )

    def forward(self, h: Tensor) -> Tensor:
        h = h + _to_image(self.attention(self.first_norm(_to_tokens(h))))
        return h + self.feed_forward(_to_image(self.second_norm(_to_tokens(h))))


class SpectralTransformer(UShape):
    """Residual U-shape of `SpectralBlock`s: `levels` resolutions, `blocks` blocks per level and way.

    Channels are `width` at full resolution and double at each level, and so do heads, which have `width` channels.

    z (B, C, H, W) -> same shape, any size: edges are replicated to a multiple of 2**(levels - 1), then cropped.
    """

    def __init__(
        self, channels: int, width: int = 28, levels: int = 3, blocks: int = 1, noise_map: bool = False
    ) -> None:
        super().__init__()
        self.noise_map = noise_map
        self.multiple = 2 ** (levels - 1)
        widths = [width * 2**level for level in range(levels)]
        # With a bias: without one, black is zero in every channel, and layer norms divide gradients by sqrt(eps).
        self.head = nn.Conv2d(channels + noise_map, width, 3, padding=1)
        self.encoder = nn.ModuleList(_blocks(w, width, blocks) for w in widths[:-1])
        self.down = nn.ModuleList(nn.Conv2d(w, 2 * w, 4, stride=2, padding=1, bias=False) for w in widths[:-1])
        self.body = _blocks(widths[-1], width, blocks)
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * w, 4 * w, 1, bias=False), nn.PixelShuffle(2)) for w in reversed(widths[:-1])
        )
        self.decoder = nn.ModuleList(_blocks(w, width, blocks) for w in reversed(widths[:-1]))
        self.tail = nn.Conv2d(width, channels, 3, padding=1, bias=False)
        start_small(self.tail)


class SpectralTransformerConfig(DenoiserSection):
    """Transformer with attention among channels."""

    name: Literal["spectral"] = "spectral"
    width: int = Field(28, ge=2, description="channels at full resolution, doubled at each level; also those of a head")
    levels: int = Field(3, ge=1, le=6, description="resolutions, the full one included")
    blocks: int = Field(1, ge=1, description="attention and feed-forward blocks per level, each way")

    def build(self, channels: int, noise_map: bool = False) -> SpectralTransformer:
        return SpectralTransformer(
            channels, width=self.width, levels=self.levels, blocks=self.blocks, noise_map=noise_map
        )

    @classmethod
    def example(cls) -> Self:
        return cls(width=4, levels=3, blocks=1)


def _blocks(width: int, width_of_head: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(SpectralBlock(width, width // width_of_head) for _ in range(count)))


def _depthwise(width: int) -> nn.Conv2d:
    return nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)


def _to_tokens(h: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H, W, C), a view."""
    return h.permute(0, 2, 3, 1)


def _to_image(h: Tensor) -> Tensor:
    """(B, H, W, C) -> (B, C, H, W), a view."""
    return h.permute(0, 3, 1, 2)
