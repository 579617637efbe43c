"""One step of training: measure, reconstruct, loss, gradients, update."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lorun.config import TrainingConfig

Phase = Literal["forward", "backward", "optimiser"]

Mixture = Callable[[Tensor, Tensor], Tensor]
"""(initial reconstruction, x) -> the first input of a network, all (B, C, H, W)."""


def make_optimizer(system: nn.Module, config: TrainingConfig, device: torch.device) -> torch.optim.Optimizer | None:
    """The optimiser of all trainable parameters, with learning rate 0; None if there are none.

    Adapters are a group of their own, with `adapters: True` and their own limit of the gradient's norm.
    """
    trained = [(name, parameter) for name, parameter in system.named_parameters() if parameter.requires_grad]
    limits = {False: config.clip_norm, True: config.adapters.clip_norm or config.clip_norm}
    groups = [
        {"params": chosen, "adapters": adapters, "clip_norm": limit}
        for adapters, limit in limits.items()
        if (chosen := [parameter for name, parameter in trained if ("lora_" in name) is adapters])
    ]
    if not groups:
        return None
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return kind(groups, lr=0.0, weight_decay=config.weight_decay, fused=device.type in ("cpu", "cuda"))


def make_average(system: nn.Module, config: TrainingConfig) -> AveragedModel | None:
    """The exponential moving average of the weights; None if `config.ema` is None."""
    return None if config.ema is None else AveragedModel(system, multi_avg_fn=get_ema_multi_avg_fn(config.ema))


def training_step(
    system: nn.Module,
    physics: nn.Module,
    x: Tensor,
    optimizer: torch.optim.Optimizer,
    config: TrainingConfig,
    average: AveragedModel | None = None,
    begin: Callable[[Phase], None] = lambda phase: None,
    mixture: Mixture | None = None,
) -> Tensor:
    """Update the weights, and their average, on images x (B, C, H, W) and return the loss.

    `physics` is the system's operator, bound to the size of x. `begin` is called with the name of each phase after the
    forward pass. `mixture` makes what the network starts from out of its initial reconstruction and x.
    """
    optimizer.zero_grad(set_to_none=True)
    loss = _loss(system, physics, x, config, mixture)
    begin("backward")
    loss.backward()
    begin("optimiser")
    for group in optimizer.param_groups:
        if group["clip_norm"] is not None:
            torch.nn.utils.clip_grad_norm_(group["params"], group["clip_norm"])
    optimizer.step()
    if average is not None:
        average.update_parameters(system)
    return loss.detach()


def _loss(system: nn.Module, physics: nn.Module, x: Tensor, config: TrainingConfig, mixture: Mixture | None) -> Tensor:
    """A separate function, so that the estimate is freed as soon as the backward pass no longer needs it."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=in_half_precision(config, x.device)):
        estimate = system(x, physics) if mixture is None else system(x, physics, mixture)
    loss = (F.l1_loss if config.loss == "l1" else F.mse_loss)(estimate.to(x.dtype), x)
    return loss.sqrt() if config.loss == "rmse" else loss.clone()  # mse_loss keeps a storage of x's size


def in_half_precision(config: TrainingConfig, device: torch.device) -> bool:
    """Whether the network computes in bfloat16."""
    if config.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return config.precision == "bfloat16"


def at_precision(config: TrainingConfig, device: torch.device) -> TrainingConfig:
    """`config` with `precision: auto` replaced by the precision that it means on `device`."""
    return config.model_copy(update={"precision": "bfloat16" if in_half_precision(config, device) else "float32"})
