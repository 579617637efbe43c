"""peft's LoRA layers, extended by choosing the stage and by a forward pass in weight space."""

from typing import Any

import torch.nn.functional as F
from peft.tuners.lora import Conv2d as PeftConv2d
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor

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

    def frozen(self: Any) -> bool:
        """Whether the base layer is frozen, which forming the weights of all layers together requires."""
        return not any(parameter.requires_grad for parameter in self.base_layer.parameters())

    def factors(self: Any) -> Factors:
        """W, A, B and s of the active adapter."""
        [adapter] = self.active_adapters
        a, b = self.lora_A[adapter].weight, self.lora_B[adapter].weight
        return Factors(self.base_layer.weight, a, b, self.scaling[adapter])

    def composed_weight(self) -> Tensor:
        """W + s BA of the active adapter, in the shape of W."""
        return compose(*self.factors())


class StageConv2d(StageLayer, PeftConv2d):
    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not self.in_weight_space():
            return super().forward(x, *args, **kwargs)
        base = self.base_layer
        if self.formed is None:  # called without its denoiser, or the base is trained too
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
