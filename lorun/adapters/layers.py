"""peft's LoRA layers, extended by the choice of a stage, a forward pass in weight space, and loralib's convolution."""

from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig
from peft.tuners.lora import Conv2d as PeftConv2d
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor, nn

from lorun.adapters.composed import Factors, Formed, Geometry, compose, composed_layer


class StageLayer:
    """What both layer types add to peft's layer.

    Attributes:
        composed: compute conv(x, W + s BA) if true, peft's conv(x, W) + s B(A(x)) if false. Both are the same function.
        formed: the composed weight, set by the denoiser while it runs.
    """

    composed = True
    formed: Formed | None = None

    def activate(self: Any, adapter: str) -> None:
        """Use `adapter`. The others stay trainable; peft's `set_adapter` would freeze them."""
        self._active_adapter = [adapter]

    def in_weight_space(self: Any) -> bool:
        """Whether the layer computes in weight space: if it has one active adapter, neither merged nor disabled."""
        return bool(self.composed and len(self.active_adapters) == 1 and not self.merged and not self.disable_adapters)

    def factors(self: Any) -> Factors:
        """W, A, B and s of the active adapter."""
        [adapter] = self.active_adapters
        a, b = self.lora_A[adapter].weight, self.lora_B[adapter].weight
        return Factors(self.base_layer.weight, a, b, self.scaling[adapter])

    def composed_weight(self) -> Tensor:
        """W + s BA of the active adapter, in the shape of W."""
        return compose(*self.factors())

    def to_peft(self: Any, adapter: str) -> tuple[Tensor, Tensor]:
        """A and B of an adapter as plain peft has them."""
        return self.lora_A[adapter].weight, self.lora_B[adapter].weight

    def from_peft(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `to_peft`."""
        return a, b


class StageConv2d(StageLayer, PeftConv2d):
    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not self.in_weight_space():
            return super().forward(x, *args, **kwargs)
        base = self.base_layer
        if self.formed is None:  # called without its denoiser
            return F.conv2d(x, self.composed_weight(), base.bias, base.stride, base.padding)
        return composed_layer(x, self.formed, base.bias, Geometry.of(base))


class StageLinear(StageLayer, PeftLinear):
    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not self.in_weight_space():
            return super().forward(x, *args, **kwargs)
        base = self.base_layer
        if self.formed is None:
            return F.linear(x, self.composed_weight(), base.bias)
        return composed_layer(x, self.formed, base.bias, None)


class LoralibConv2d(StageConv2d):
    """A k x k convolution whose change is factored as in loralib: A (r k, in k), B (out k, r k), BA in W's shape.

    Row o of BA in W's shape is [B_1 A | ... | B_k A], with B_i the row i of the k rows of B that belong to o. So peft's
    layout says the same with rank r k^2: A k times on a diagonal, and B as (out, r k^2). `to_peft` writes this, and
    peft's own forward pass computes it.
    """

    def update_layer(self, adapter_name: str, r: int, lora_alpha: float, config: LoraConfig, **kwargs: Any) -> None:
        super().update_layer(adapter_name, r, lora_alpha, config, **kwargs)
        self.lora_A[adapter_name] = _LoralibA(self.base_layer, r)
        self.lora_B[adapter_name] = _LoralibB(self.base_layer, r)
        self.reset_lora_parameters(adapter_name, config.init_lora_weights)
        self._move_adapter_to_device_of_base_layer(adapter_name)

    def get_delta_weight(self, adapter: str) -> Tensor:
        change = self.lora_B[adapter].weight @ self.lora_A[adapter].weight
        return self.scaling[adapter] * change.view(self.base_layer.weight.shape)

    def to_peft(self, adapter: str) -> tuple[Tensor, Tensor]:
        return self.lora_A[adapter].kernels(), self.lora_B[adapter].kernels()

    def from_peft(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `to_peft`.

        Raises:
            ValueError: A is not k times the same matrix on a diagonal.
        """
        k = self.base_layer.kernel_size[0]
        matrix = a.flatten(1)
        rows, columns = (size // k for size in matrix.shape)
        first = matrix[:rows, :columns]
        if not torch.equal(torch.block_diag(*[first] * k), matrix):
            raise ValueError(f"A is not {k} times the same matrix on a diagonal")
        return first, b.reshape(len(b) * k, rows)


class _LoralibA(nn.Module):
    """A (r k, in k) of a convolution."""

    def __init__(self, conv: nn.Conv2d, r: int) -> None:
        super().__init__()
        self.size, self.stride, self.padding = conv.kernel_size, conv.stride, conv.padding
        self.weight = nn.Parameter(torch.empty(r * self.size[0], conv.in_channels * self.size[0]))

    def kernels(self) -> Tensor:
        """(r k^2, in, k, k)"""
        return torch.block_diag(*[self.weight] * self.size[0]).unflatten(1, (-1, *self.size))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernels(), None, self.stride, self.padding)


class _LoralibB(nn.Module):
    """B (out k, r k) of a convolution."""

    def __init__(self, conv: nn.Conv2d, r: int) -> None:
        super().__init__()
        self.size = conv.kernel_size[0]
        self.weight = nn.Parameter(torch.empty(conv.out_channels * self.size, r * self.size))

    def kernels(self) -> Tensor:
        """(out, r k^2, 1, 1)"""
        return self.weight.view(len(self.weight) // self.size, -1, 1, 1)

    def forward(self, h: Tensor) -> Tensor:
        return F.conv2d(h, self.kernels())
