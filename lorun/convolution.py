"""Faster convolutions with few output channels on a CPU.

CPU kernels compute 16 output channels at a time (one vector of floats), so that one or two cost as much as sixteen. Few
input channels, however, are cheap. Two reformulations use this; both are exact up to rounding:

* several neighbouring output pixels are computed as channels of one pixel, by a wider kernel with a stride;
* the weight gradient of a layer with few outputs is computed as that of a layer with few inputs: the image and the
  output's gradient change places.

On other devices, and where neither applies, PyTorch's own functions are called.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, ...]
"""Height and width: of a stride, a padding, a kernel."""

_LANES = 16  # floats in a vector
_as_written = False


@contextmanager
def as_written() -> Iterator[None]:
    """Use only PyTorch's own convolutions inside, to count a network's operations as it is written."""
    global _as_written
    before, _as_written = _as_written, True
    try:
        yield
    finally:
        _as_written = before


def convolve(x: Tensor, w: Tensor, bias: Tensor | None, stride: Pair, padding: Pair) -> Tensor:
    """conv2d of x (B, in, H, W) with w (out, in, kh, kw)."""
    width = x.shape[3] + 2 * padding[1] - w.shape[3] + 1
    span = _span(w.shape[0], width) if _has_lanes(x) and stride == (1, 1) else 1
    if span == 1:
        return F.conv2d(x, w, bias, stride, padding)
    bias = bias if bias is None else bias.repeat(span)
    y = F.conv2d(x, _shifted(w, span), bias, (1, span), padding)  # (B, span * out, H', W' / span)
    return y.movedim(1, -1).reshape(y.shape[0], y.shape[2], width, w.shape[0]).movedim(-1, 1)


def gradients(
    g: Tensor, x: Tensor, w: Tensor, stride: Pair, padding: Pair, for_x: bool, for_w: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of x and w, where requested, from the gradient g (B, out, H', W') of conv2d(x, w)."""
    grad_x = grad_w = None
    kernel = w.shape[2:]
    if _has_lanes(g) and _reversible(kernel, stride, padding):
        if for_x and w.shape[1] < _LANES:
            grad_x = convolve(g, _turned(w), None, (1, 1), _reversed(kernel, padding))
        if for_w and w.shape[0] < _LANES:
            grad_w = weight_gradient(g, x, w, stride, padding)
    if (for_x and grad_x is None) or (for_w and grad_w is None):  # both in one call, as they read the same tensors
        both = _backward(g, x, w, stride, padding, for_x and grad_x is None, for_w and grad_w is None)
        grad_x, grad_w = both[0] if grad_x is None else grad_x, both[1] if grad_w is None else grad_w
    return grad_x, grad_w


def weight_gradient(g: Tensor, x: Tensor, w: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """Gradient of w from the gradient g (B, out, H', W') of conv2d(x, w). Only the shape and dtype of w are used."""
    out, channels, *kernel = w.shape
    if out < min(channels, _LANES) and _has_lanes(g) and _reversible(kernel, stride, padding):
        # Explicitly channels-last: PyTorch chooses by the strides of this weight, which one channel leaves ambiguous.
        turned = torch.empty_like(w.transpose(0, 1), memory_format=torch.channels_last)
        return _turned(_backward(x, g, turned, (1, 1), _reversed(kernel, padding), False, True)[1])
    return _backward(g, x, w, stride, padding, False, True)[1]


def _has_lanes(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and not _as_written


def _span(channels: int, width: int) -> int:
    """Number of neighbouring pixels of a row of `width` that are computed as one."""
    fit = _LANES // channels
    return math.gcd(1 << (fit.bit_length() - 1), width) if fit else 1


def _shifted(w: Tensor, span: int) -> Tensor:
    """(out, in, kh, kw) -> (span * out, in, kh, kw + span - 1): `span` copies, each shifted by one more pixel."""
    out, channels, height, width = w.shape
    wide = w.new_zeros(span, out, height, width + span - 1, channels)
    next_one, *strides = wide.stride()
    wide.as_strided((span, out, height, width, channels), (next_one + strides[2], *strides)).copy_(w.movedim(1, -1))
    return wide.flatten(0, 1).movedim(-1, 1)


def _reversible(kernel: Pair | list[int], stride: Pair, padding: Pair) -> bool:
    return stride == (1, 1) and all(pad < size for pad, size in zip(padding, kernel, strict=True))


def _reversed(kernel: Pair | list[int], padding: Pair) -> Pair:
    """Padding of the convolution from the output's gradient to the input's."""
    return tuple(size - 1 - pad for pad, size in zip(padding, kernel, strict=True))


def _turned(w: Tensor) -> Tensor:
    """(out, in, kh, kw) -> (in, out, kh, kw), rotated by 180 degrees."""
    return w.flip(2, 3).transpose(0, 1)


def _backward(
    g: Tensor, x: Tensor, w: Tensor, stride: Pair, padding: Pair, for_x: bool, for_w: bool
) -> tuple[Any, Any]:
    dilation, transposed, output_padding, groups = [1, 1], False, [0, 0], 1
    found = torch.ops.aten.convolution_backward(
        g, x, w, None, stride, padding, dilation, transposed, output_padding, groups, [for_x, for_w, False]
    )
    return found[0], found[1]
