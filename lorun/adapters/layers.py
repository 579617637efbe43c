"""peft's LoRA layers with two things added: choosing the stage, and a forward pass in weight space."""

from typing import Any

from peft.tuners.lora import Conv2d as PeftConv2d
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor

from lorun.adapters.composed import Geometry, compose, composed_conv2d, composed_linear


class StageLayer:
    """What both layer kinds add to peft's layer of the same kind."""

    composed = True  # conv(x, W + s BA) when true, peft's conv(x, W) + s B(A(x)) when false: the same function
    _factors: tuple[Tensor, Tensor, float] | None = None  # A, B and s, where one adapter is active

    def activate(self: Any, adapter: str) -> None:
        """Use `adapter` from now on; gradients of the others stay, where peft's `set_adapter` would freeze them."""
        self._active_adapter = [adapter]
        # As plain attributes, these are inputs of a compiled denoiser, which therefore serves every stage.
        self._factors = self.lora_A[adapter].weight, self.lora_B[adapter].weight, self.scaling[adapter]

    def set_adapter(self: Any, *args: Any, **kwargs: Any) -> None:
        """peft's own choice of adapters, one or several."""
        super().set_adapter(*args, **kwargs)  # type: ignore[misc]
        if len(self.active_adapters) == 1:
            self.activate(self.active_adapters[0])
        else:
            self._factors = None

    def composed_weight(self: Any) -> Tensor:
        """W + s BA of the active adapter, in the shape of W."""
        return compose(self.base_layer.weight, *self._factors)

    def _in_weight_space(self: Any) -> bool:
        return self.composed and self._factors is not None and not self.merged and not self.disable_adapters


class StageConv2d(StageLayer, PeftConv2d):
    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not self._in_weight_space():
            return super().forward(x, *args, **kwargs)
        base = self.base_layer
        a, b, scale = self._factors  # type: ignore[misc]
        return composed_conv2d(x, base.weight, base.bias, a, b, scale, Geometry(base.stride, base.padding))


class StageLinear(StageLayer, PeftLinear):
    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not self._in_weight_space():
            return super().forward(x, *args, **kwargs)
        base = self.base_layer
        a, b, scale = self._factors  # type: ignore[misc]
        return composed_linear(x, base.weight, base.bias, a, b, scale)
