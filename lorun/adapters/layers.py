"""peft's LoRA layers, extended by the choice of a stage, a forward pass in weight space, and loralib's convolution."""

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig
from peft.tuners.lora import Conv2d as PeftConv2d
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor, nn

from lorun.adapters.composed import Factors, Formed, Geometry, apply_weight, compose, composed_layer


class StageLayer:
    """What all layer types add to peft's layer.

    Attributes:
        composed: compute conv(x, W + s BA) if true, peft's conv(x, W) + s B(A(x)) if false. Both are the same function.
        formed: the composed weight, set by the denoiser while it runs.
    """

    composed = True
    formed: Formed | None = None
    in_peft = True
    """Plain peft has adapters for such layers."""

    @staticmethod
    def out_first(weight: Tensor) -> Tensor:
        """A weight (out, in, ...), a view."""
        return weight

    def activate(self: Any, adapter: str) -> None:
        """Use `adapter`. The others stay trainable; peft's `set_adapter` would freeze them."""
        self._active_adapter = [adapter]

    def in_weight_space(self: Any) -> bool:
        """Whether the layer computes in weight space: if it has one active adapter, neither merged nor disabled."""
        return bool(self.composed and len(self.active_adapters) == 1 and not self.merged and not self.disable_adapters)

    def factors(self: Any, adapter: str | None = None) -> Factors:
        """W, A, B and s of an adapter, by default of the active one."""
        adapter = adapter or self.active_adapters[0]
        a, b = self.lora_A[adapter].weight, self.lora_B[adapter].weight
        return Factors(self.out_first(self.base_layer.weight), a, b, self.scaling[adapter])

    def composed_weight(self) -> Tensor:
        """W + s BA of the active adapter, (out, in, ...)."""
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
        geometry = Geometry.of(self.base_layer)
        if self.formed is None:  # called without its denoiser
            return apply_weight(x, self.composed_weight(), self.base_layer.bias, geometry)
        return composed_layer(x, self.formed, self.base_layer.bias, geometry)


class StageConvTranspose2d(StageConv2d):
    """A transposed convolution, which peft does not have: A is one of k x k, B a 1 x 1 convolution."""

    in_peft = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Unsupported layer type")
            super().__init__(*args, **kwargs)

    @staticmethod
    def out_first(weight: Tensor) -> Tensor:
        return weight.transpose(0, 1)

    def update_layer(self, adapter_name: str, r: int, lora_alpha: float, config: LoraConfig, **kwargs: Any) -> None:
        self.in_features, self.out_features = self.base_layer.in_channels, self.base_layer.out_channels
        super().update_layer(adapter_name, r, lora_alpha, config, **kwargs)
        self.lora_B[adapter_name] = nn.Conv2d(r, self.out_features, 1, bias=False)
        self.reset_lora_parameters(adapter_name, config.init_lora_weights)
        self._move_adapter_to_device_of_base_layer(adapter_name)

    def factors(self, adapter: str | None = None) -> Factors:
        factors = super().factors(adapter)
        return factors if factors.a.dim() == 2 else factors._replace(a=self.out_first(factors.a))

    def get_delta_weight(self, adapter: str) -> Tensor:
        factors = self.factors(adapter)
        return self.out_first(compose(*factors._replace(weight=torch.zeros_like(factors.weight))))


class StageLinear(StageLayer, PeftLinear):
    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not self.in_weight_space():
            return super().forward(x, *args, **kwargs)
        if self.formed is None:
            return apply_weight(x, self.composed_weight(), self.base_layer.bias, None)
        return composed_layer(x, self.formed, self.base_layer.bias, None)


class LoralibConv2d(StageConv2d):
    """A k x k convolution with the factors of loralib: A (r k, in k), B (out k, r k), and BA viewed in W's shape.

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
        weight, a, b, scale = self.factors(adapter)
        return self.out_first(scale * (b @ a).view(weight.shape))

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


class LoralibConvTranspose2d(LoralibConv2d, StageConvTranspose2d):
    """A transposed convolution in loralib's layout. Loralib does not have it; BA is viewed as (out, in, k, k)."""


class _LoralibA(nn.Module):
    """A (r k, in k) of a convolution."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, r: int) -> None:
        super().__init__()
        self.size, self.geometry = conv.kernel_size, Geometry.of(conv)
        self.weight = nn.Parameter(torch.empty(r * self.size[0], conv.in_channels * self.size[0]))

    def kernels(self) -> Tensor:
        """(r k^2, in, k, k)"""
        return torch.block_diag(*[self.weight] * self.size[0]).unflatten(1, (-1, *self.size))

    def forward(self, x: Tensor) -> Tensor:
        return apply_weight(x, self.kernels(), None, self.geometry)


class _LoralibB(nn.Module):
    """B (out k, r k) of a convolution."""

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, r: int) -> None:
        super().__init__()
        self.size = conv.kernel_size[0]
        self.weight = nn.Parameter(torch.empty(conv.out_channels * self.size, r * self.size))

    def kernels(self) -> Tensor:
        """(out, r k^2, 1, 1)"""
        return self.weight.view(len(self.weight) // self.size, -1, 1, 1)

    def forward(self, h: Tensor) -> Tensor:
        return F.conv2d(h, self.kernels())
