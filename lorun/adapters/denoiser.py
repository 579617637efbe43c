"""A denoiser with one adapter per stage: the adapted layers and their ranks; choosing a stage, saving, loading."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lorun.adapters.composed import Formation
from lorun.adapters.decomposition import truncated_svd
from lorun.adapters.layers import LoralibConv2d, StageConv2d, StageLayer, StageLinear
from lorun.config.network import AdapterLayout, Scaling
from lorun.errors import LorunError
from lorun.files import replace_folder


def rank(layer: nn.Conv2d | nn.Linear, gamma: float) -> int:
    """r = ceil(min(in, out) * gamma / 100), channels or features; gamma in percent."""
    size = min(layer.weight.shape[:2])
    return math.ceil(round(size * gamma / 100, 9))


def adaptable_layers(
    denoiser: nn.Module, layout: AdapterLayout = "peft", pattern: str = ".*"
) -> dict[str, nn.Conv2d | nn.Linear]:
    """The layers that LoRA adapts, by name: those whose whole name matches a regular expression.

    Skipped are layers without a weight matrix: depthwise convolutions (one filter per channel), and modules whose own
    parameters are all vectors or scalars (gains and biases of a norm, a temperature). They stay frozen.

    Raises:
        LorunError: a layer can be neither adapted nor skipped. peft's LoRA would fail, or be silently wrong, on
            grouped, dilated, or not zero-padded convolutions. The error names the layer and the reason. Or no layer
            matches; the error lists their names.
    """
    others: list[str] = []
    layers: dict[str, nn.Conv2d | nn.Linear] = {}
    for name, module in denoiser.named_modules():
        if not any(True for _ in module.parameters(recurse=False)) or _skipped(module):
            continue
        if not re.fullmatch(pattern, name):
            others.append(name)
            continue
        reason = _not_adaptable(module, layout)
        if reason:
            raise LorunError(f"LoRA cannot adapt layer `{name}` ({type(module).__name__}): {reason}")
        assert isinstance(module, nn.Conv2d | nn.Linear)
        layers[name] = module
    if not layers and others:
        raise LorunError(f"`layers` (={pattern!r}) matches no layer; choose from {', '.join(others)}")
    if not layers:
        raise LorunError(f"{type(denoiser).__name__} has no layer to adapt")
    return layers


def _skipped(module: nn.Module) -> bool:
    """Whether a module stays frozen. Modules with buffers, which training may change (batch norm), do not."""
    if type(module) is nn.Conv2d:
        return module.groups > 1 and module.groups == module.in_channels == module.out_channels
    vectors = all(parameter.dim() <= 1 for parameter in module.parameters(recurse=False))
    return vectors and not any(True for _ in module.buffers(recurse=False))


def _not_adaptable(layer: nn.Module, layout: AdapterLayout) -> str | None:
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
    if layout == "loralib" and len(set(layer.kernel_size)) > 1:
        return f"`kernel_size` (={layer.kernel_size}) must be square in the layout 'loralib'"
    return None


def stage_name(stage: int) -> str:
    """Name of the adapter of a stage, counted from 0: stage_1, stage_2, ..."""
    return f"stage_{stage + 1}"


def adapter_config(
    denoiser: nn.Module,
    gamma: float,
    layout: AdapterLayout = "peft",
    scaling: Scaling = "one",
    alpha: float = 1.0,
    layers: str = ".*",
) -> LoraConfig:
    """peft's configuration of one adapter on the layers of `denoiser` that match the pattern `layers`."""
    ranks = {name: rank(layer, gamma) for name, layer in adaptable_layers(denoiser, layout, layers).items()}
    alphas = {name: _alpha(r, scaling, alpha) for name, r in ranks.items()}
    config = LoraConfig(
        r=max(ranks.values()),
        lora_alpha=max(alphas.values()),
        rank_pattern=_anchored(ranks),
        alpha_pattern=_anchored(alphas),
        target_modules="|".join(map(re.escape, ranks)),
        lora_dropout=0.0,
        bias="none",
    )
    convolution = {"peft": StageConv2d, "loralib": LoralibConv2d}[layout]
    config._register_custom_module({nn.Conv2d: convolution, nn.Linear: StageLinear})
    return config


def _alpha(r: int, scaling: Scaling, alpha: float) -> float:
    """peft's alpha, whose scale is alpha / r. With r, it is 1 as in the paper."""
    return {"one": r, "alpha_over_r": alpha, "alpha_over_sqrt_r": alpha * math.sqrt(r)}[scaling]


def _anchored(values: Mapping[str, float]) -> dict[str, float]:
    """Values by patterns of layers' whole names; without an anchor peft matches names by their ends."""
    return {"^" + re.escape(name): value for name, value in values.items()}


class AdaptedDenoiser(nn.Module):
    """A denoiser with one trainable adapter per stage. B = 0 at first, so that each stage starts as the base.

    Args:
        denoiser: the base; its adapted layers are replaced in place.
        stages: number of adapters, named stage_1, stage_2, ... for stages 0, 1, ...
        gamma: rank of the adapters in percent of a layer's size.
        composed: compute in weight space instead of peft's way.
        layout, scaling, alpha, layers: see `lorun.config.AdapterConfig`.
        frozen: the base is not trained.

    Raises:
        LorunError: a layer that LoRA cannot adapt, or no layer to adapt (see `adaptable_layers`).
    """

    def __init__(
        self,
        denoiser: nn.Module,
        stages: int,
        gamma: float,
        composed: bool = True,
        *,
        layout: AdapterLayout = "peft",
        scaling: Scaling = "one",
        alpha: float = 1.0,
        layers: str = ".*",
        frozen: bool = True,
    ) -> None:
        super().__init__()
        # One configuration for each adapter, because peft edits it. All are made before layers are replaced.
        configs = [adapter_config(denoiser, gamma, layout, scaling, alpha, layers) for _ in range(stages)]
        self.model: PeftModel = get_peft_model(denoiser, configs[0], adapter_name=stage_name(0))
        for stage in range(1, stages):
            self.model.add_adapter(stage_name(stage), configs[stage])
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_("lora_" in name or not frozen)
        self.layers = [module for module in self.model.modules() if isinstance(module, StageLayer)]
        self.compose(composed)
        self.activate(0)

    @property
    def base(self) -> nn.Module:
        """The denoiser, with its layers replaced by adapted ones."""
        base: nn.Module = self.model.get_base_model()
        return base

    def base_parameters(self) -> dict[str, nn.Parameter]:
        """The base's parameters, by the names that they have in a denoiser without adapters."""
        named = self.base.named_parameters()
        return {name.replace(".base_layer", ""): p for name, p in named if "lora_" not in name}

    @property
    def named_layers(self) -> dict[str, Any]:
        """The adapted layers, with their names in the denoiser without adapters."""
        return {name: layer for name, layer in self.base.named_modules() if isinstance(layer, StageLayer)}

    @property
    def ranks(self) -> dict[str, int]:
        """Rank of the adapters by layer, with the layers' names in the denoiser without adapters."""
        return {name: layer.r[stage_name(0)] for name, layer in self.named_layers.items()}

    def compose(self, composed: bool) -> None:
        """Choose the forward pass: in weight space, or peft's. Both compute the same function."""
        for layer in self.layers:
            layer.composed = composed

    def activate(self, stage: int) -> None:
        """Use the adapter of `stage`, counted from 0."""
        for layer in self.layers:
            layer.activate(stage_name(stage))

    def forward(self, z: Tensor, *sigma: Tensor) -> Tensor:
        composing = [layer for layer in self.layers if layer.in_weight_space()]
        formed = Formation([layer.factors() for layer in composing]).weights() if composing else []
        try:
            for layer, weight in zip(composing, formed, strict=True):
                layer.formed = weight
            output: Tensor = self.base(z, *sigma)
        finally:
            for layer in composing:
                layer.formed = None
        return output

    @torch.no_grad()
    def decompose(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        """Set the adapter of each stage to the best approximation of W_k - W that its rank allows.

        Args:
            states: for each stage, the weights W_k of a denoiser, by their names in the denoiser without adapters. W is
                the base. Weights without an adapter (biases, norms, depthwise convolutions) stay the base's.

        Raises:
            LorunError: another number of states than stages; a weight is missing, or has another shape.
        """
        if len(states) != len(self.model.peft_config):
            raise LorunError(f"{len(states)} states for {len(self.model.peft_config)} stages")
        for stage, (adapter, state) in enumerate(zip(self.model.peft_config, states, strict=True)):
            for name, layer in self.named_layers.items():
                weight, found = layer.base_layer.weight, state.get(f"{name}.weight")
                shape = None if found is None else tuple(found.shape)
                if found is None or shape != tuple(weight.shape):
                    expected = tuple(weight.shape)
                    raise LorunError(f"state {stage + 1}: shape {shape} instead of {expected} at `{name}.weight`")
                a, b = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
                change = (found.to(weight) - weight) / layer.scaling[adapter]
                left, right = truncated_svd(change.reshape(len(b), -1), b.shape[1])
                a.copy_(right.reshape(a.shape))
                b.copy_(left.reshape(b.shape))

    def save(self, folder: Path) -> None:
        """Write `folder`/stage_k/adapter_model.safetensors and adapter_config.json, loadable by plain peft.

        Adapters in loralib's layout are written in peft's, exactly, with rank r k^2 for kernels of k x k.
        """
        replace_folder(folder, self._write)

    def _write(self, folder: Path) -> None:
        for adapter, config in self.model.peft_config.items():
            tensors = {name: tensor.detach().contiguous() for name, tensor in self._in_peft(adapter).items()}
            ranks = {name: len(tensors[_in_file(name, "A")]) for name in self.named_layers}
            alphas = {
                name: layer.lora_alpha[adapter] * (ranks[name] // layer.r[adapter])  # the same scale, alpha / r
                for name, layer in self.named_layers.items()
            }
            (folder / adapter).mkdir(parents=True)
            save_file(tensors, folder / adapter / "adapter_model.safetensors", metadata={"format": "pt"})
            written = dataclasses.replace(
                config,
                r=max(ranks.values()),
                rank_pattern=_anchored(ranks),
                alpha_pattern=_anchored(alphas),
                inference_mode=True,
            )
            written.save_pretrained(str(folder / adapter))

    def _in_peft(self, adapter: str) -> dict[str, Tensor]:
        """A and B of all layers as plain peft has them, by their names in its file."""
        named = {name: layer.to_peft(adapter) for name, layer in self.named_layers.items()}
        return {_in_file(name, half): w for name, both in named.items() for half, w in zip("AB", both, strict=True)}

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Load what `save` wrote. All files are read and checked before any parameter is changed.

        Does what peft's `set_peft_model_state_dict` does, which would go through all stages K times.

        Raises:
            LorunError: a stage is missing or damaged, or a weight has another name, shape or layout.
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
            own = self._in_peft(adapter)
            for name in sorted(own.keys() | state.keys()):
                if name not in state or name not in own or state[name].shape != own[name].shape:
                    raise LorunError(f"{path}: does not fit the network at `{name}`")
            for name, layer in self.named_layers.items():
                try:
                    a, b = layer.from_peft(*(state[_in_file(name, half)] for half in "AB"))
                except ValueError as error:
                    raise LorunError(f"{path}: does not fit the network at `{name}`: {error}") from error
                changes += [(layer.lora_A[adapter].weight, a), (layer.lora_B[adapter].weight, b)]
        for parameter, value in changes:
            parameter.copy_(value)


def _in_file(layer: str, half: str) -> str:
    """Name of A or B of a layer in peft's file."""
    return f"base_model.model.{layer}.lora_{half}.weight"
