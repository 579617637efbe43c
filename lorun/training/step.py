"""One step of training: measure, reconstruct, loss, gradients, update."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorun.config import TrainingConfig


def make_optimizer(system: nn.Module, config: TrainingConfig, device: torch.device) -> torch.optim.Optimizer | None:
    """The optimiser of all that is trained, with learning rate 0; None where nothing is."""
    trained = [parameter for parameter in system.parameters() if parameter.requires_grad]
    if not trained:
        return None
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    return kind(trained, lr=0.0, weight_decay=config.weight_decay, fused=device.type in ("cpu", "cuda"))


def training_step(
    system: nn.Module,
    physics: nn.Module,
    x: Tensor,
    optimizer: torch.optim.Optimizer,
    config: TrainingConfig,
) -> Tensor:
    """Update the weights on images x (B, C, H, W) and return the loss; `physics` is the system's, for their size."""
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=in_half_precision(config, x.device)):
        estimate = system(x, physics)
    loss = (F.mse_loss if config.loss == "mse" else F.l1_loss)(estimate.float(), x)
    loss.backward()
    if config.clip_norm is not None:
        trained = (parameter for group in optimizer.param_groups for parameter in group["params"])
        torch.nn.utils.clip_grad_norm_(trained, config.clip_norm)
    optimizer.step()
    return loss.detach().clone()  # not a view: mse_loss gives its number in a storage of the whole batch


def in_half_precision(config: TrainingConfig, device: torch.device) -> bool:
    """Whether the network computes in bfloat16."""
    if config.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return config.precision == "bfloat16"
