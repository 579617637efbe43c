"""Layers with a low-rank change of their weight, computed in weight space: conv(x, W + s BA).

The same function as conv(x, W) + s B(A(x)), but it keeps one activation (x) instead of three for the backward pass,
and W + s BA only while it is used: it is formed again from W, A and B in the backward pass. W is frozen; with g the
gradient of the output, that of A and B is found in one of two ways, which differ in rounding alone:

* full: G = weight gradient of (x, g);  dA = s B^T G,  dB = s G A^T;
* low rank: dA = weight gradient of (x, s B^T g),  dB = s g (A * x)^T, with r channels instead of out or in.

`low_rank_pays` chooses between them from the layer's shape alone, so that a run is the same on every machine.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

_LENGTH = 512  # kernel area * channels, from which on the low-rank way was the faster one
_SHARE = 4  # and ranks up to this fraction of the channels


class Geometry(NamedTuple):
    """How a convolution meets its input."""

    stride: tuple[int, ...]
    padding: tuple[int, ...] | str


def low_rank_pays(weight: Tensor, rank: int) -> bool:
    """Whether the low-rank backward pass is the faster one for a weight (out, in[, kh, kw]).

    Measured on a CPU (results/bench/backward.csv): kernels work on 16 channels at a time, so that a rank of a few
    channels saves nothing on narrow layers, and the two passes over x and g cost more than it saves.
    """
    channels = min(weight.shape[:2])
    area = weight[0, 0].numel()
    return area * channels >= _LENGTH and _SHARE * rank <= channels


def compose(weight: Tensor, a: Tensor, b: Tensor, scale: float, dtype: torch.dtype | None = None) -> Tensor:
    """W + s BA as W (out, in[, kh, kw]) is, in shape and memory format; A is (r, in[, kh, kw]), B (out, r[, 1, 1]).

    Formed in A's precision, never in half precision, where a small BA would vanish beside W; then cast to `dtype`.
    """
    with torch.autocast(weight.device.type, enabled=False):
        matrix = _Matrix(weight)
        w = torch.addmm(matrix.of(weight).to(a.dtype), b.flatten(1), matrix.of(a), alpha=scale)
        return matrix.back(w, weight).to(dtype or a.dtype)


class _Matrix:
    """Weights (out, in[, kh, kw]) as matrices (out, in * kh * kw), in the order in which they lie in memory."""

    def __init__(self, weight: Tensor) -> None:
        self.channels_last = weight.dim() == 4 and not weight.is_contiguous()

    def of(self, weight: Tensor) -> Tensor:
        return (weight.permute(0, 2, 3, 1) if self.channels_last else weight).flatten(1)

    def back(self, matrix: Tensor, like: Tensor) -> Tensor:
        """In the shape of `like`."""
        if not self.channels_last:
            return matrix.view(like.shape)
        out, channels, height, width = like.shape
        return matrix.view(out, height, width, channels).permute(0, 3, 1, 2)


def composed_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float, geometry: Geometry
) -> Tensor:
    """conv2d(x, W + s BA, bias): x (B, in, H, W); gradients for x, A and B."""
    if _plain(weight, bias) or isinstance(geometry.padding, str):
        return F.conv2d(x, compose(weight, a, b, scale), bias, geometry.stride, geometry.padding)
    y: Tensor = _Composed.apply(_cast(x, a), weight, _cast(bias, a), a, b, scale, geometry)
    return y


def composed_linear(x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """linear(x, W + s BA, bias): x (..., in); gradients for x, A and B."""
    if _plain(weight, bias):
        return F.linear(x, compose(weight, a, b, scale), bias)
    y: Tensor = _Composed.apply(_cast(x, a), weight, _cast(bias, a), a, b, scale, None)
    return y


def _plain(weight: Tensor, bias: Tensor | None) -> bool:
    """Whether W or the bias is trained as well: then PyTorch's own backward pass serves."""
    return weight.requires_grad or (bias is not None and bias.requires_grad)


def _cast(x: Any, a: Tensor) -> Any:
    """What autocast would do: to the precision of its region, else to that of the adapter."""
    if x is None:
        return None
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else a.dtype)


class _Composed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scale: float,
        geometry: Geometry | None,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, a, b)
        ctx.scale, ctx.geometry = scale, geometry
        w = compose(weight, a, b, scale, x.dtype)
        if geometry is None:
            return F.linear(x, w, bias)
        return F.conv2d(x, w, bias, geometry.stride, geometry.padding)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, a, b = ctx.saved_tensors
        for_x, _, _, for_a, for_b, *_ = ctx.needs_input_grad
        w = compose(weight, a, b, ctx.scale, x.dtype) if for_x else weight
        low_rank = low_rank_pays(weight, a.shape[0])
        for_w = (for_a or for_b) and not low_rank
        grad_a = grad_b = None
        with torch.autocast(x.device.type, enabled=False):
            grad_x, grad_w = _gradients(g, x, w, ctx.geometry, for_x, for_w)
            if grad_w is not None:
                matrix = _Matrix(weight)
                full = matrix.of(grad_w).to(a.dtype)
                grad_a = matrix.back(ctx.scale * (b.flatten(1).t() @ full), a)
                grad_b = (ctx.scale * (full @ matrix.of(a).t())).view_as(b)
            elif for_a or for_b:
                grad_a, grad_b = _low_rank_gradients(g, x, a, b, ctx)
        return grad_x, None, None, grad_a, grad_b, None, None


def _low_rank_gradients(g: Tensor, x: Tensor, a: Tensor, b: Tensor, ctx: FunctionCtx) -> tuple[Tensor, Tensor]:
    scale, geometry = ctx.scale, ctx.geometry  # type: ignore[attr-defined]
    a_, b_t = a.to(x.dtype), (scale * b.flatten(1).t()).to(x.dtype)  # (r, in, ...), (r, out)
    if geometry is None:
        g, x = g.flatten(0, -2), x.flatten(0, -2)  # (N, out), (N, in)
        ax, bg = x @ a_.t(), g @ b_t.t()  # (N, r)
        grad_a, grad_b = bg.t() @ x, g.t() @ ax
    else:
        ax = F.conv2d(x, a_, None, geometry.stride, geometry.padding)  # (B, r, H', W')
        bg = F.conv2d(g, b_t[:, :, None, None])
        _, grad_a = _gradients(bg, x, a_, geometry, False, True)
        grad_b = g.movedim(1, -1).flatten(0, -2).t() @ ax.movedim(1, -1).flatten(0, -2)  # (out, r)
    return grad_a.to(a.dtype), (scale * grad_b).to(b.dtype).view_as(b)


def _gradients(g: Tensor, x: Tensor, w: Tensor, geometry: Geometry | None, for_x: bool, for_w: bool) -> tuple[Any, Any]:
    """Gradients of the input and of the weight, where asked for."""
    if geometry is None:
        grad_x = g @ w if for_x else None
        return grad_x, g.flatten(0, -2).t() @ x.flatten(0, -2) if for_w else None
    if not (for_x or for_w):
        return None, None
    stride, padding = geometry
    dilation, transposed, output_padding, groups = [1, 1], False, [0, 0], 1
    grad_x, grad_w, _ = torch.ops.aten.convolution_backward(
        g, x, w, None, stride, padding, dilation, transposed, output_padding, groups, [for_x, for_w, False]
    )
    return grad_x, grad_w
