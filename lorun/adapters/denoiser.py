"""A denoiser with one adapter per stage: the adapted layers and their ranks; choosing a stage, saving, loading."""

import math
import re
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lorun.adapters.composed import Formation
from lorun.adapters.layers import StageConv2d, StageLayer, StageLinear
from lorun.errors import LorunError
from lorun.files import replace_folder


def rank(layer: nn.Conv2d | nn.Linear, gamma: float) -> int:
    """r = ceil(min(in, out) * gamma / 100), channels or features; gamma in percent."""
    size = min(layer.weight.shape[:2])
    return math.ceil(round(size * gamma / 100, 9))


def adaptable_layers(denoiser: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """The layers that LoRA adapts, by name.

    Skipped are layers without a weight matrix: depthwise convolutions (one filter per channel), and modules whose own
    parameters are all vectors or scalars (gains and biases of a norm, a temperature). They stay frozen.

    Raises:
        LorunError: a layer can be neither adapted nor skipped. peft's LoRA would fail, or be silently wrong, on
            grouped, dilated, or not zero-padded convolutions. The error names the layer and the reason.
    """
    layers: dict[str, nn.Conv2d | nn.Linear] = {}
    for name, module in denoiser.named_modules():
        if not any(True for _ in module.parameters(recurse=False)) or _skipped(module):
            continue
        reason = _not_adaptable(module)
        if reason:
            raise LorunError(f"LoRA cannot adapt layer `{name}` ({type(module).__name__}): {reason}")
        assert isinstance(module, nn.Conv2d | nn.Linear)
        layers[name] = module
    if not layers:
        raise LorunError(f"{type(denoiser).__name__} has no layer to adapt")
    return layers


def _skipped(module: nn.Module) -> bool:
    """Whether a module stays frozen. Modules with buffers, which training may change (batch norm), do not."""
    if type(module) is nn.Conv2d:
        return module.groups > 1 and module.groups == module.in_channels == module.out_channels
    vectors = all(parameter.dim() <= 1 for parameter in module.parameters(recurse=False))
    return vectors and not any(True for _ in module.buffers(recurse=False))


def _not_adaptable(layer: nn.Module) -> str | None:
    if type(layer) is nn.Linear:
        return None
    if type(layer) is not nn.Conv2d:
        return "only Conv2d and Linear are adapted"
    if layer.groups != 1:
        return f"`groups` (={layer.groups}) must be 1"
    if layer.padding_mode != "zeros":
        return f"`padding_mode` (={layer.padding_mode!r}) must be 'zeros'"
    if layer.dilation != (1, 1):
        return f"`dilation` (={layer.dilation}) must be 1"
    if layer.padding == "same" and any(size % 2 == 0 for size in layer.kernel_size):
        return f"`kernel_size` (={layer.kernel_size}) must be odd with `padding` 'same'"
    return None


def stage_name(stage: int) -> str:
    """Name of the adapter of a stage, counted from 0: stage_1, stage_2, ..."""
    return f"stage_{stage + 1}"


def adapter_config(denoiser: nn.Module, gamma: float) -> LoraConfig:
    """peft's configuration of one adapter on all adaptable layers of `denoiser`."""
    ranks = {name: rank(layer, gamma) for name, layer in adaptable_layers(denoiser).items()}
    # Anchored patterns, because peft matches names in a list by their ends.
    pattern = {"^" + re.escape(name): r for name, r in ranks.items()}
    config = LoraConfig(
        r=max(ranks.values()),
        lora_alpha=max(ranks.values()),
        rank_pattern=pattern,
        alpha_pattern=pattern,  # alpha = r: the scale is 1 everywhere, as in the paper
        target_modules="|".join(map(re.escape, ranks)),
        lora_dropout=0.0,
        bias="none",
    )
    config._register_custom_module({nn.Conv2d: StageConv2d, nn.Linear: StageLinear})
    return config


class AdaptedDenoiser(nn.Module):
    """A frozen denoiser with one trainable adapter per stage. B = 0 at first, so that each stage starts as the base.

    Args:
        denoiser: the base; its adapted layers are replaced in place.
        stages: number of adapters, named stage_1, stage_2, ... for stages 0, 1, ...
        gamma: rank of the adapters in percent of a layer's size.
        composed: compute in weight space instead of peft's way.

    Raises:
        LorunError: a layer that LoRA cannot adapt (see `adaptable_layers`).
    """

    def __init__(self, denoiser: nn.Module, stages: int, gamma: float, composed: bool = True) -> None:
        super().__init__()
        # One configuration for each adapter, because peft edits it. All are made before layers are replaced.
        configs = [adapter_config(denoiser, gamma) for _ in range(stages)]
        self.model: PeftModel = get_peft_model(denoiser, configs[0], adapter_name=stage_name(0))
        for stage in range(1, stages):
            self.model.add_adapter(stage_name(stage), configs[stage])
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_("lora_" in name)
        self.layers = [module for module in self.model.modules() if isinstance(module, StageLayer)]
        self.compose(composed)
        self.activate(0)

    @property
    def base(self) -> nn.Module:
        """The denoiser, with its layers replaced by adapted ones."""
        base: nn.Module = self.model.get_base_model()
        return base

    def base_parameters(self) -> dict[str, nn.Parameter]:
        """The frozen parameters, by the names that they have in a denoiser without adapters."""
        named = self.base.named_parameters()
        return {name.replace(".base_layer", ""): p for name, p in named if "lora_" not in name}

    @property
    def ranks(self) -> dict[str, int]:
        """Rank of the adapters by layer, with the layers' names in the denoiser without adapters."""
        named: Any = self.base.named_modules()
        return {name: layer.r[stage_name(0)] for name, layer in named if hasattr(layer, "lora_A")}

    def adapter_parameters(self, adapter: str) -> dict[str, nn.Parameter]:
        """The parameters of one adapter, with their names in the file that peft writes."""
        end = f".{adapter}.weight"
        named = self.model.named_parameters()
        return {name.removesuffix(end) + ".weight": p for name, p in named if "lora_" in name and name.endswith(end)}

    def compose(self, composed: bool) -> None:
        """Choose the forward pass: in weight space, or peft's. Both compute the same function."""
        for layer in self.layers:
            layer.composed = composed

    def activate(self, stage: int) -> None:
        """Use the adapter of `stage`, counted from 0."""
        for layer in self.layers:
            layer.activate(stage_name(stage))

    def forward(self, z: Tensor, *sigma: Tensor) -> Tensor:
        composing = [layer for layer in self.layers if layer.in_weight_space() and layer.frozen()]
        formed = Formation([layer.factors() for layer in composing]).weights() if composing else []
        try:
            for layer, weight in zip(composing, formed, strict=True):
                layer.formed = weight
            output: Tensor = self.base(z, *sigma)
        finally:
            for layer in composing:
                layer.formed = None
        return output

    def save(self, folder: Path) -> None:
        """Write `folder`/stage_k/adapter_model.safetensors and adapter_config.json, loadable by plain peft."""
        replace_folder(folder, lambda part: self.model.save_pretrained(str(part)))

    def load(self, folder: Path) -> None:
        """Load what `save` wrote. All files are read and checked before any parameter is changed.

        Does what peft's `set_peft_model_state_dict` does, which would go through all stages K times.

        Raises:
            LorunError: a stage is missing or damaged, or a weight has another name or shape.
        """
        changes = []
        for adapter in self.model.peft_config:
            path = folder / adapter / "adapter_model.safetensors"
            if not path.is_file():
                raise LorunError(f"{path}: missing; the network has {len(self.model.peft_config)} stages")
            try:
                state = load_file(path)
            except (OSError, SafetensorError) as error:
                raise LorunError(f"{path}: not a readable safetensors file ({error})") from error
            own = self.adapter_parameters(adapter)
            for name in sorted(own.keys() | state.keys()):
                if name not in state or name not in own or state[name].shape != own[name].shape:
                    raise LorunError(f"{path}: does not fit the network at `{name}`")
            changes += [(parameter, state[name]) for name, parameter in own.items()]
        with torch.no_grad():
            for parameter, value in changes:
                parameter.copy_(value)
