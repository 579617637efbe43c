"""What is compared: the same unfolding network, computed in different ways, and its counterparts."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lorun.accounting.latency import wait_for
from lorun.errors import LorunError, UnknownName
from lorun.methods import Experiment
from lorun.profiles import Profile
from lorun.step import make_optimizer, training_step
from lorun.system import System, build_system, training_physics
from lorun.unfolding import UnfoldingNetwork, initial_reconstruction

Variant = Callable[[Experiment], System]


def _strategy(method: str, *, recompute: bool = False, forward: str | None = None) -> Variant:
    def build(experiment: Experiment) -> System:
        lora = experiment.lora if forward is None else LoraConfig(gamma=experiment.lora.gamma, forward=forward)
        system = build_system(experiment.model_copy(update={"method": method, "lora": lora}))
        network: Any = system.network
        network.recompute = recompute
        return system

    return build


class DeepinvUnfolded(nn.Module):
    """deepinv's unfolded proximal gradient descent, with the denoisers and step sizes of a `block_k` network.

    The same function as that network (a test holds them equal), computed by deepinv's own iterations.
    """

    data_dependent = True  # deepinv's iterations look at values

    def __init__(self, network: UnfoldingNetwork) -> None:
        super().__init__()
        from deepinv.optim import L2, PGD, PnP

        class Denoiser(nn.Module):
            def __init__(self, denoiser: nn.Module) -> None:
                super().__init__()
                self.denoiser = denoiser

            def forward(self, z: Tensor, sigma: Tensor | None = None) -> Tensor:
                output: Tensor = self.denoiser(z)
                return output

        stages = network.stages
        self.stages = stages
        self.iterations = PGD(
            data_fidelity=L2(),
            prior=[PnP(denoiser=Denoiser(denoiser)) for denoiser in network.denoisers],
            stepsize=network.step_sizes.tolist(),
            lambda_reg=1.0,
            sigma_denoiser=0.0,
            max_iter=stages,
            unfold=True,
            trainable_params=["stepsize"],
        )

    def forward(self, y: Tensor, physics: Any) -> Tensor:
        estimate: Tensor = self.iterations(y, physics, init=initial_reconstruction(y, physics))
        return estimate


def _deepinv(experiment: Experiment) -> System:
    system = build_system(experiment.model_copy(update={"method": "block_k"}))
    network: Any = system.network
    unfolded = DeepinvUnfolded(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return System(unfolded, system.physics)


#: name -> how it is built from an experiment of any strategy
VARIANTS: dict[str, Variant] = {
    "lorun": _strategy("lorun", forward="composed"),
    "lorun_recomputed": _strategy("lorun", forward="composed", recompute=True),
    "lorun_by_peft": _strategy("lorun", forward="ordinary"),
    "block_k": _strategy("block_k"),
    "block_k_recomputed": _strategy("block_k", recompute=True),
    "deepinv_unfolded": _deepinv,
}


def build_variant(name: str, experiment: Experiment) -> System:
    """The system of a variant, freshly initialised. Raises UnknownName."""
    if name not in VARIANTS:
        raise UnknownName("variant", name, VARIANTS)
    return VARIANTS[name](experiment)


def benchmarked(profile: Profile) -> Experiment:
    """The experiment whose sizes are measured: LoRun in the last setting of the first task whose operator is fixed.

    Raises:
        LorunError: there is none.
    """
    task, of = next(iter(profile.tasks.items()))
    settings = [name for name in of.settings if "lorun" in of.methods_of(name) and not of.physics_of(name).learned]
    if not settings:
        raise LorunError(f"profile {profile.profile!r}: the task {task!r} has no setting with `lorun` to measure")
    return profile.experiment(task, settings[-1], "lorun", profile.seeds[0])


def one_step(system: System, experiment: Experiment, device: torch.device) -> Callable[[], None]:
    """One step as the training loop makes it, on random patches of the accounting's size."""
    size = experiment.accounting
    system.to(device).train()
    x = torch.rand(size.batch, experiment.channels, size.patch, size.patch).to(device)
    physics = training_physics(system, size.patch)
    optimizer = make_optimizer(system, experiment.training, device)
    assert optimizer is not None

    def step() -> None:
        training_step(system, physics, x, optimizer, experiment.training)
        wait_for(device)

    return step


def reconstruction(system: System, experiment: Experiment, device: torch.device) -> Callable[[], None]:
    """Reconstruct one random image of the accounting's size from its measurement."""
    side = experiment.accounting.image
    system.to(device).eval()
    x = torch.rand(1, experiment.channels, side, side).to(device)
    physics = system.physics.at(side, side)
    with torch.no_grad():
        y = physics(x)

    @torch.no_grad()
    def reconstruct() -> None:
        system.network(y, physics)
        wait_for(device)

    return reconstruct
