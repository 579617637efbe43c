"""LoRA in weight space: a layer computes conv(x, W + s BA).

This is the same function as conv(x, W) + s B(A(x)), but only x is kept for the backward pass, not three activations.
The weights W + s BA of a stage are computed together, before its denoiser runs, and again in the backward pass. They
are not kept in between, so that they take the memory of one stage, not of K.

With g the gradient of a layer's output, the gradients of A and B are computed in one of two ways, which are equal up to
rounding:

* full: G = weight gradient of (x, g);  dA = s B^T G,  dB = s G A^T, for all layers of the stage together;
* low rank: dA = weight gradient of (x, s B^T g),  dB = s g (A * x)^T, with r channels instead of out or in.

`low_rank_pays` chooses by the layer's shape and the type of device, so that a run is the same on every such machine. If
W is trained too, G is its gradient, and the full way is taken. So it is for convolutions in loralib's layout.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lorun.convolution import Pair, convolve, gradients, weight_gradient


class Factors(NamedTuple):
    """A weight W (out, in[, kh, kw]) and its change s BA.

    A is (r, in[, kh, kw]) and B (out, r[, 1, 1]). In loralib's layout of a k x k convolution, A is (r k, in k) and B
    (out k, r k), and BA is viewed in the shape of W. Of a transposed convolution, W and A are views in this order.
    """

    weight: Tensor
    a: Tensor
    b: Tensor
    scale: float


class Geometry(NamedTuple):
    """Stride and padding of a convolution, or of a transposed one."""

    stride: Pair
    padding: Pair
    transposed: bool = False

    @classmethod
    def of(cls, layer: nn.Conv2d | nn.ConvTranspose2d) -> Self:
        """Geometry of a layer. With padding 'same' its kernel must have odd sizes."""
        if isinstance(layer, nn.ConvTranspose2d):
            return cls(layer.stride, layer.padding, transposed=True)  # type: ignore[arg-type]
        if layer.padding == "valid":
            return cls(layer.stride, (0, 0))
        if layer.padding == "same":
            return cls(layer.stride, tuple(size // 2 for size in layer.kernel_size))
        return cls(layer.stride, layer.padding)  # type: ignore[arg-type]


def low_rank_pays(weight: Tensor, rank: int, geometry: Geometry | None) -> bool:
    """Whether the low-rank backward pass is the faster one for a layer; `geometry` is None for a linear layer.

    Measured on CPUs, with inputs that are no longer in the cache (results/bench/backward.csv). Sixteen channels fill
    one vector register, which suits the full way. GPUs, which were not measured, always take the full way: one weight
    gradient on all channels uses them better than several on few channels.
    """
    if weight.device.type != "cpu" or (geometry is not None and geometry != Geometry((1, 1), geometry.padding)):
        return False
    channels = min(weight.shape[:2])
    if weight[0, 0].numel() == 1:
        return channels >= 64 and 8 * rank <= channels
    return channels > 16 and 4 * rank <= channels


def compose(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """W + s BA in the shape and memory format of W.

    Computed in A's precision, never in half precision, where a small BA would be rounded away.
    """
    with torch.autocast(weight.device.type, enabled=False):
        return _compose(weight, a, b, scale)


def _compose(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    if a.dim() < weight.dim():  # loralib's layout
        return torch.add(weight.to(a.dtype), (b @ a).view(weight.shape), alpha=scale)
    w = torch.addmm(_matrix(weight).to(a.dtype), b.flatten(1), _matrix(a), alpha=scale)
    return _as_weight(w, weight)


class Formation:
    """The weights W + s BA of several layers, for one stage and one forward and backward pass."""

    def __init__(self, layers: Sequence[Factors]) -> None:
        self.layers = layers
        kind = layers[0].a.device.type
        self.dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else layers[0].a.dtype
        self._again: list[Tensor | None] = [None] * len(layers)

    def weights(self) -> list["Formed"]:
        """The weights for the forward pass, with gradients for all W, A and B. Not kept here, to free them early."""
        formed = _Form.apply(self, *(factor for layer in self.layers for factor in (layer.weight, layer.a, layer.b)))
        return [Formed(w, self, place) for place, w in enumerate(formed)]

    def form(self) -> list[Tensor]:
        """The weights, without gradients."""
        with torch.no_grad(), torch.autocast(self.layers[0].a.device.type, enabled=False):
            return [_compose(*layer).to(self.dtype) for layer in self.layers]

    def take(self, place: int) -> Tensor:
        """The weight of a layer for the backward pass. The first call computes all; each is given out once."""
        w = self._again[place]
        if w is None:
            self._again[:] = formed = self.form()
            w = formed[place]
        self._again[place] = None
        return w


class Formed(NamedTuple):
    """The weight W + s BA of a layer, with the formation that computes it again for the backward pass."""

    w: Tensor
    formation: Formation
    place: int


def composed_layer(x: Tensor, formed: Formed, bias: Tensor | None, geometry: Geometry | None) -> Tensor:
    """A layer with a composed weight, see `apply_weight`."""
    w, formation, place = formed
    x, bias = x.to(w.dtype), None if bias is None else bias.to(w.dtype)
    if torch.compiler.is_compiling():  # keeps the weights of all stages for the backward pass
        return apply_weight(x, w, bias, geometry)
    layer = formation.layers[place]
    y: Tensor = _Layer.apply(x, w, bias, layer.a, layer.b, formation, place, geometry)
    return y


def apply_weight(x: Tensor, w: Tensor, bias: Tensor | None, geometry: Geometry | None) -> Tensor:
    """conv2d of x (B, in, H, W) with w (out, in, kh, kw), transposed or not, or linear of x (..., in) if `geometry` is
    None.
    """
    if geometry is None:
        return F.linear(x, w, bias)
    if geometry.transposed:
        return F.conv_transpose2d(x, w.transpose(0, 1), bias, geometry.stride, geometry.padding)
    return F.conv2d(x, w, bias, geometry.stride, geometry.padding)


class _Form(torch.autograd.Function):
    """All weights of a stage from its W, A, B, W, A, B, ...; backward, dW, dA and dB from the weights' gradients."""

    @staticmethod
    def forward(ctx: Any, formation: Formation, *factors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*factors)
        ctx.layers = formation.layers
        return tuple(formation.form())

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        factors, for_weights = ctx.saved_tensors, ctx.needs_input_grad[1::3]
        triples = zip(factors[::3], factors[1::3], factors[2::3], strict=True)
        found: list[Tensor | None] = [None]
        for layer, (w, a, b), gradient, for_w in zip(ctx.layers, triples, gradients, for_weights, strict=True):
            if gradient is None:
                found += [None, None, None]
                continue
            found += [gradient.to(w.dtype) if for_w else None, *full_gradients(gradient, Factors(w, a, b, layer.scale))]
        return tuple(found)


class _Layer(torch.autograd.Function):
    """One layer, which keeps only x for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        formation: Formation,
        place: int,
        geometry: Geometry | None,
    ) -> Tensor:
        ctx.save_for_backward(x, a, b)
        ctx.formation, ctx.place, ctx.geometry = formation, place, geometry
        if geometry is None or geometry.transposed:
            return apply_weight(x, w, bias, geometry)
        return convolve(x, w, bias, geometry.stride, geometry.padding)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, a, _ = ctx.saved_tensors  # B is saved so that changing it in place is an error
        geometry = ctx.geometry
        for_x, for_w, for_bias, *_ = ctx.needs_input_grad
        w, layer = ctx.formation.take(ctx.place), ctx.formation.layers[ctx.place]
        grad_a = grad_b = None
        low_rank = a.shape[1] == w.shape[1] and not layer.weight.requires_grad  # not loralib's, not trained
        if for_w and low_rank and low_rank_pays(w, a.shape[0], geometry):
            for_w = False
            grad_a, grad_b = low_rank_gradients(g, x, layer, geometry)
        if geometry is None:
            grad_x = g @ w if for_x else None
            grad_w = g.flatten(0, -2).t() @ x.flatten(0, -2) if for_w else None
        elif geometry.transposed:  # the reverse of a convolution, from g to x
            reverse = w.transpose(0, 1)
            grad_x = convolve(g, reverse, None, geometry.stride, geometry.padding) if for_x else None
            grad_w = weight_gradient(x, g, reverse, geometry.stride, geometry.padding) if for_w else None
            grad_w = None if grad_w is None else grad_w.transpose(0, 1)
        else:
            grad_x, grad_w = gradients(g, x, w, geometry.stride, geometry.padding, for_x, for_w)
        grad_bias = _rows(g, geometry).sum(0) if for_bias else None
        return grad_x, grad_w, grad_bias, grad_a, grad_b, None, None, None


def full_gradients(grad_w: Tensor, layer: Factors) -> tuple[Tensor, Tensor]:
    """dA and dB from the gradient of the composed weight."""
    loralib = layer.a.dim() < layer.weight.dim()
    full = (grad_w.reshape(len(layer.b), -1) if loralib else _matrix(grad_w)).to(layer.a.dtype)
    grad_a, grad_b = layer.b.flatten(1).t() @ full, full @ _matrix(layer.a).t()
    if layer.scale != 1:
        grad_a, grad_b = layer.scale * grad_a, layer.scale * grad_b
    return _as_weight(grad_a, layer.a), grad_b.view(layer.b.shape)


def low_rank_gradients(g: Tensor, x: Tensor, layer: Factors, geometry: Geometry | None) -> tuple[Tensor, Tensor]:
    """dA and dB from the gradient g of the layer's output and its input x."""
    a, b_t = layer.a.to(x.dtype), layer.b.flatten(1).t().to(x.dtype)  # (r, in[, kh, kw]), (r, out)
    if layer.scale != 1:
        a, b_t = layer.scale * a, layer.scale * b_t
    g_rows, x_rows = _rows(g, geometry), _rows(x, geometry)  # (N, out), (N, in)
    if geometry is None or a[0, 0].numel() == 1:
        ax = a.flatten(1) @ x_rows.t()  # (r, N)
        grad_a = ((b_t @ g_rows.t()) @ x_rows).view(a.shape)
    else:
        bg = F.conv2d(g, b_t[:, :, None, None])  # (B, r, H', W')
        grad_a = weight_gradient(bg, x, a, geometry.stride, geometry.padding)
        ax = _rows(convolve(x, a, None, geometry.stride, geometry.padding), geometry).t()
    return grad_a.to(layer.a.dtype), (ax @ g_rows).t().to(layer.b.dtype).reshape(layer.b.shape)


def _matrix(weight: Tensor) -> Tensor:
    """(out, in[, kh, kw]) -> (out, kh * kw * in), a view of a weight in channels-last order."""
    return weight if weight.dim() == 2 else weight.permute(0, 2, 3, 1).flatten(1)


def _as_weight(matrix: Tensor, like: Tensor) -> Tensor:
    """The inverse of `_matrix`, for a weight with the shape of `like`."""
    if like.dim() == 2:
        return matrix
    _, channels, height, width = like.shape
    return matrix.view(-1, height, width, channels).permute(0, 3, 1, 2)


def _rows(x: Tensor, geometry: Geometry | None) -> Tensor:
    """(B, C, H, W), or (..., C) if `geometry` is None -> (N, C), a view of an image in channels-last order."""
    return (x if geometry is None else x.permute(0, 2, 3, 1)).flatten(0, -2)
