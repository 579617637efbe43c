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
from lorun.adapters.layers import (
    LoralibConv2d,
    LoralibConvTranspose2d,
    StageConv2d,
    StageConvTranspose2d,
    StageLayer,
    StageLinear,
)
from lorun.config.network import AdapterLayout, Scaling
from lorun.config.reading import load_json
from lorun.errors import LorunError
from lorun.files import replace_folder

Adaptable = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


def rank(layer: Adaptable, gamma: float) -> int:
    """r = ceil(min(in, out) * gamma / 100), channels or features; gamma in percent."""
    size = min(layer.weight.shape[:2])
    return math.ceil(round(size * gamma / 100, 9))


def adaptable_layers(denoiser: nn.Module, layout: AdapterLayout = "peft", pattern: str = ".*") -> dict[str, Adaptable]:
    """The layers that LoRA adapts, by name: those whose whole name matches a regular expression.

    Skipped are layers without a weight matrix: depthwise convolutions (one filter per channel), and modules whose own
    parameters are all vectors or scalars (gains and biases of a norm, a temperature). They stay frozen.

    Raises:
        LorunError: a layer can be neither adapted nor skipped. peft's LoRA would fail, or be silently wrong, on
            grouped, dilated, or not zero-padded convolutions. The error names the layer and the reason. Or no layer
            matches; the error lists their names.
    """
    others: list[str] = []
    layers: dict[str, Adaptable] = {}
    for name, module in denoiser.named_modules():
        if not any(True for _ in module.parameters(recurse=False)) or _skipped(module):
            continue
        if not re.fullmatch(pattern, name):
            others.append(name)
            continue
        reason = _not_adaptable(module, layout)
        if reason:
            raise LorunError(f"LoRA cannot adapt layer `{name}` ({type(module).__name__}): {reason}")
        assert isinstance(module, Adaptable)
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
    if type(layer) not in (nn.Conv2d, nn.ConvTranspose2d):
        return "only Conv2d, ConvTranspose2d and Linear are adapted"
    assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    if layer.groups != 1:
        return f"`groups` (={layer.groups}) must be 1"
    if layer.padding_mode != "zeros":
        return f"`padding_mode` (={layer.padding_mode!r}) must be 'zeros'"
    if layer.dilation != (1, 1):
        return f"`dilation` (={layer.dilation}) must be 1"
    if layer.padding == "same" and any(size % 2 == 0 for size in layer.kernel_size):
        return f"`kernel_size` (={layer.kernel_size}) must be odd with `padding` 'same'"
    if layer.output_padding != (0, 0):
        return f"`output_padding` (={layer.output_padding}) must be 0"
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
    convolutions = {
        "peft": {nn.Conv2d: StageConv2d, nn.ConvTranspose2d: StageConvTranspose2d},
        "loralib": {nn.Conv2d: LoralibConv2d, nn.ConvTranspose2d: LoralibConvTranspose2d},
    }
    config._register_custom_module({**convolutions[layout], nn.Linear: StageLinear})
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
                found, expected = state.get(f"{name}.weight"), tuple(layer.base_layer.weight.shape)
                shape = None if found is None else tuple(found.shape)
                if found is None or shape != expected:
                    raise LorunError(f"state {stage + 1}: shape {shape} instead of {expected} at `{name}.weight`")
                weight, a, b, scale = layer.factors(adapter)
                change = (layer.out_first(found).to(weight) - weight) / scale
                left, right = truncated_svd(change.reshape(len(b), -1), b.shape[1])
                a.copy_(right.view(a.shape))
                b.copy_(left.view(b.shape))

    def save(self, folder: Path) -> None:
        """Write `folder`/stage_k/adapter_model.safetensors and adapter_config.json, loadable by plain peft.

        Adapters in loralib's layout are written in peft's, exactly, with rank r k^2 for kernels of k x k. peft cannot
        adapt transposed convolutions: their changed weights are written (`modules_to_save`), and A and B into a further
        file, transposed.safetensors, for `load`.
        """
        replace_folder(folder, self._write)

    @torch.no_grad()
    def _write(self, folder: Path) -> None:
        for adapter, config in self.model.peft_config.items():
            path = folder / adapter
            path.mkdir(parents=True)
            for file, tensors in self._files(adapter).items():
                save_file({name: w.contiguous() for name, w in tensors.items()}, path / file, {"format": "pt"})
            in_peft = [name for name, layer in self.named_layers.items() if layer.in_peft]
            written = dataclasses.replace(
                config,
                **self._patterns(adapter),
                target_modules="|".join(map(re.escape, in_peft)),
                modules_to_save=[name for name, layer in self.named_layers.items() if not layer.in_peft] or None,
                inference_mode=True,
            )
            written.save_pretrained(str(path))

    def _patterns(self, adapter: str) -> dict[str, dict[str, float]]:
        """Ranks and alphas that are written for plain peft. The scale alpha / r is the adapter's."""
        in_peft = {name: layer for name, layer in self.named_layers.items() if layer.in_peft}
        ranks = {name: len(layer.to_peft(adapter)[0]) for name, layer in in_peft.items()}
        alphas = {
            name: layer.lora_alpha[adapter] * (ranks[name] // layer.r[adapter]) for name, layer in in_peft.items()
        }
        return {"rank_pattern": _anchored(ranks), "alpha_pattern": _anchored(alphas)}

    def _files(self, adapter: str) -> dict[str, dict[str, Tensor]]:
        """What is written of an adapter, by file and name."""
        peft: dict[str, Tensor] = {}
        transposed: dict[str, Tensor] = {}
        for name, layer in self.named_layers.items():
            if not layer.in_peft:
                changed = {"weight": layer.base_layer.weight + layer.get_delta_weight(adapter)}
                whole = {**layer.base_layer.state_dict(), **changed}
                peft |= {f"{_IN_PEFT}{name}.{key}": value for key, value in whole.items()}
            (peft if layer.in_peft else transposed).update(zip(_names(name), layer.to_peft(adapter), strict=True))
        return {_FILE: peft, _TRANSPOSED: transposed} if transposed else {_FILE: peft}

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Load what `save` wrote. All files are read and checked before any parameter is changed.

        Does what peft's `set_peft_model_state_dict` does, which would go through all stages K times.

        Raises:
            LorunError: a stage is missing or damaged, or a weight has another name, shape, layout or scale.
        """
        changes = []
        for adapter in self.model.peft_config:
            found: dict[str, Tensor] = {}
            for file, own in self._files(adapter).items():
                path = folder / adapter / file
                if not path.is_file():
                    raise LorunError(f"{path}: missing; the network has {len(self.model.peft_config)} stages")
                try:
                    state = load_file(path)
                except (OSError, SafetensorError) as error:
                    raise LorunError(f"{path}: not a readable safetensors file ({error})") from error
                for name in sorted(own.keys() | state.keys()):
                    if name not in state or name not in own or state[name].shape != own[name].shape:
                        raise LorunError(f"{path}: does not fit the network at `{name}`")
                found |= state
            _check_scales(folder / adapter / "adapter_config.json", self._patterns(adapter)["alpha_pattern"])
            for name, layer in self.named_layers.items():
                try:
                    a, b = layer.from_peft(*(found[key] for key in _names(name)))
                except ValueError as error:
                    raise LorunError(f"{folder / adapter}: does not fit the network at `{name}`: {error}") from error
                changes += [(layer.lora_A[adapter].weight, a), (layer.lora_B[adapter].weight, b)]
        for parameter, value in changes:
            parameter.copy_(value)


_FILE, _TRANSPOSED = "adapter_model.safetensors", "transposed.safetensors"
_IN_PEFT = "base_model.model."


def _check_scales(path: Path, alphas: Mapping[str, float]) -> None:
    """Raise a LorunError unless a file of peft's configuration has these alphas."""
    try:
        written = dict(load_json(path.read_bytes())["alpha_pattern"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LorunError(f"{path}: missing, or not a configuration of peft ({error})") from error
    for pattern, alpha in alphas.items():
        if written.get(pattern) != alpha:
            found = written.get(pattern)
            raise LorunError(f"{path}: made with alpha {found} at `{pattern}`, the network has {alpha}")


def _names(layer: str) -> list[str]:
    """Names of A and B of a layer in peft's file."""
    return [f"{_IN_PEFT}{layer}.lora_{half}.weight" for half in "AB"]
