"""From an experiment to what is trained and scored: a network and the physics it is called with."""

from typing import Any

import torch
from torch import Tensor, nn

from lorun import plugins, seeds
from lorun.config import DEEP_PLUG_AND_PLAY, PRETRAIN, STRATEGIES, Experiment, Recompute
from lorun.physics import Operator, build_physics


class System(nn.Module):
    """A network and its physics in one module: what the optimiser sees and what a weights file holds."""

    def __init__(self, network: nn.Module, physics: Operator) -> None:
        super().__init__()
        self.network = network
        self.physics = physics

    def forward(self, x: Tensor, physics: Operator | None = None) -> Tensor:
        """Measure x (B, C, H, W) and reconstruct it; `physics` is this system's, bound to a size where needed.

        The measurement is in full precision, whatever the network computes in.
        """
        physics = physics or self.physics
        with torch.autocast(x.device.type, enabled=False):
            y = physics(x)
        estimate: Tensor = self.network(y, physics)
        return estimate


def build_system(experiment: Experiment) -> System:
    """The freshly initialised system of an experiment; the physics is not fitted yet.

    Raises:
        UnknownName: the method is neither a strategy nor a baseline.
        LorunError: the baseline unsupported this physics.
    """
    physics = build_physics(experiment.physics)
    with torch.random.fork_rng():
        seeds.seed_torch(experiment.seed, seeds.WEIGHTS)
        network: Any
        if experiment.method in (*STRATEGIES, PRETRAIN):
            from lorun.unfolding import build_unfolding

            network = build_unfolding(experiment)
        elif experiment.method == DEEP_PLUG_AND_PLAY:
            from lorun.splitting import build_splitting

            network = build_splitting(experiment)
        else:
            network = plugins.build(experiment.baseline, physics, experiment.data.channels)
    # Narrow convolutions of a CPU are two to three times faster in this order. Adapters form their weights
    # in it in any case, so that LoRun alone does not show the difference.
    return System(network, physics).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def training_physics(system: System, patch: int, seed: int = 0, step: int = 0) -> Operator:
    """The operator of a system as a training step on square patches of `patch` pixels has it."""
    return system.physics.for_training(patch, seeds.generator(seed, seeds.OPERATOR, step))


def set_recompute(network: Any, recompute: Recompute) -> Recompute:
    """Have the network do so, if it has stages to recompute (an attribute `recompute`); return what it does."""
    if not hasattr(network, "recompute"):
        return "none"
    network.recompute = recompute == "stage"
    return recompute
