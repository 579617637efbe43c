"""peft's LoRA layers with two things added: choosing the stage, and a forward pass in weight space."""

from typing import Any

import torch.nn.functional as F
from peft.tuners.lora import Conv2d as PeftConv2d
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor

from lorun.adapters.composed import Factors, Formed, Geometry, compose, composed_layer


class StageLayer:
    """What both layer kinds add to peft's layer of the same kind.

    Attributes:
        composed: conv(x, W + s BA) when true, peft's conv(x, W) + s B(A(x)) when false: the same function.
        formed: the composed weight while the denoiser runs, which forms those of all its layers together.
    """

    composed = True
    formed: Formed | None = None

    def activate(self: Any, adapter: str) -> None:
        """Use `adapter` from now on; gradients of the others stay, where peft's `set_adapter` would freeze them."""
        self._active_adapter = [adapter]

    def in_weight_space(self: Any) -> bool:
        """Whether it composes now: with one adapter, neither merged nor disabled."""
        return bool(self.composed and len(self.active_adapters) == 1 and not self.merged and not self.disable_adapters)

    def frozen(self: Any) -> bool:
        """Whether its adapters alone are trained, as forming weights together takes for granted."""
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
        if self.formed is None:  # called by itself, or trained with its base
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
