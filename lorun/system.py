"""From an experiment to what is trained and scored: a network and the operator that it is called with."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lorun import seeds
from lorun.config import Recompute
from lorun.errors import LorunError
from lorun.methods import Experiment
from lorun.physics import Operator
from lorun.step import Mixture
from lorun.unfolding import initial_reconstruction


class System(nn.Module):
    """A network and its operator in one module: what the optimiser sees and what a weights file holds."""

    def __init__(self, network: nn.Module, physics: Operator) -> None:
        super().__init__()
        self.network = network
        self.physics = physics

    def forward(self, x: Tensor, physics: Operator | None = None, mixture: Mixture | None = None) -> Tensor:
        """Measure x (B, C, H, W) and reconstruct it; `physics` is this system's, bound to a size where needed.

        The measurement is in full precision, whatever the network computes in. With `mixture` an unfolding network
        starts from what it makes of the initial reconstruction and x.
        """
        physics = physics or self.physics
        with torch.autocast(x.device.type, enabled=False):
            y = physics(x)
            start = () if mixture is None else (mixture(initial_reconstruction(y, physics), x),)
        estimate: Tensor = self.network(y, physics, *start)
        return estimate


def build_system(experiment: Experiment) -> System:
    """The freshly initialised system of an experiment; the operator is not fitted yet.

    Raises:
        LorunError: a file of the operator cannot be used; the baseline does not support this operator.
    """
    physics = experiment.physics.build()
    with torch.random.fork_rng():
        seeds.seed_torch(experiment.seed, seeds.WEIGHTS)
        network: Any = experiment.build_network(physics)
    # Narrow convolutions on a CPU are two to three times faster in this memory format. Adapters form their weights in
    # it in any case.
    return System(network, physics).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def training_physics(system: System, patch: tuple[int, int], seed: int = 0, step: int = 0) -> Operator:
    """The operator of a system for a training step on patches of (height, width) pixels."""
    return system.physics.for_training(patch, seeds.generator(seed, seeds.OPERATOR, step))


def set_recompute(network: Any, recompute: Recompute) -> Recompute:
    """Set what the network recomputes, if it has such a choice (an attribute `recompute`); return what it does.

    Raises:
        LorunError: a layer normalises over the batch, of which it would see a half.
    """
    choices = recompute_choices(network)
    if len(choices) == 1:
        return "none"
    if recompute not in choices:
        raise LorunError(
            f"recompute {recompute!r}: a layer normalises over the batch; choose from {', '.join(choices)}"
        )
    network.recompute = recompute
    return recompute


def recompute_choices(network: Any) -> tuple[Recompute, ...]:
    """What the network can recompute, the least first."""
    if not hasattr(network, "recompute"):
        return ("none",)
    normalises = any(isinstance(layer, _BatchNorm) for layer in network.modules())
    return ("none", "stage") if normalises else ("none", "stage", "half_stage")
