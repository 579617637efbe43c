"""What the benchmarks compare: LoRun and Block-K, each computed in several ways."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from lorun.accounting.latency import hardware_name, wait_for
from lorun.accounting.prediction import resized
from lorun.bench.rounds import Work
from lorun.config import Recompute, TrainingConfig, UnfoldingConfig
from lorun.devices import pick_device
from lorun.errors import LorunError
from lorun.methods import PRESETS, Experiment, Strategy
from lorun.profiles import Profile
from lorun.provenance import revision, versions
from lorun.step import make_optimizer, training_step
from lorun.system import System, build_system, training_physics
from lorun.unfolding import initial_reconstruction

LARGE = (16, 256, 16)
"""Images, channels and side of the convolution that shows the speed of the machine."""
LARGE_FLOPS = 2 * 9 * LARGE[1] ** 2 * LARGE[0] * LARGE[2] ** 2


def benchmarked(profile: Profile) -> Experiment:
    """The experiment that sets the sizes: LoRun in the last setting of the first task whose operator is not learned.

    Raises:
        LorunError: there is none.
    """
    name, task = next(iter(profile.tasks.items()))
    fixed = [setting for setting in task.settings if not task.physics_of(setting).learned]
    settings = [setting for setting in fixed if "lorun" in task.methods_of(setting)]
    if not settings:
        raise LorunError(f"profile {profile.profile!r}: the task {name!r} has no setting with `lorun` to measure")
    return profile.experiment(name, settings[-1], "lorun", profile.seeds[0])


def where(threads: int, device: str = "cpu") -> dict[str, Any]:
    """Columns that end every table: machine, code and packages."""
    commit, dirty = revision()
    machine = {"device": hardware_name(pick_device(device)), "threads": threads}
    return machine | {"commit": commit, "dirty": dirty, "versions": versions(("torch", "peft", "deepinv"))}


def with_strategy(experiment: Experiment, strategy: str) -> Experiment:
    """An experiment of LoRun with another sharing strategy, freshly initialised; the sizes stay."""
    lorun = experiment.spec
    assert isinstance(lorun, Strategy)
    assert lorun.adapters is not None
    unfolding = UnfoldingConfig(stages=lorun.stages, step_size=lorun.step_size)
    preset = PRESETS[strategy]
    spec = preset.specify(lorun.denoiser, unfolding, lorun.adapters, None, lorun.training, lorun.data)
    return experiment.model_copy(update={"spec": spec})


def training_of(experiment: Experiment) -> TrainingConfig:
    """How an experiment of LoRun is trained."""
    assert experiment.training is not None
    return experiment.training


def by_peft(experiment: Experiment) -> Experiment:
    """An experiment of LoRun whose adapted layers are computed as peft does: the layer, plus its adapter's path."""
    spec: Any = experiment.spec
    adapters = spec.adapters.model_copy(update={"forward": "ordinary"})
    return experiment.model_copy(update={"spec": spec.model_copy(update={"adapters": adapters})})


def _system(strategy: str, experiment: Experiment, peft: bool = False, recompute: Recompute = "none") -> System:
    experiment = with_strategy(experiment, strategy)
    system = build_system(by_peft(experiment) if peft else experiment)
    network: Any = system.network
    network.recompute = recompute
    return system


def _deepinv(experiment: Experiment) -> System:
    """The function of Block-K, computed by deepinv's unfolded proximal gradient descent."""
    from deepinv.optim import L2, PGD, PnP

    system = _system("block_k", experiment)
    network: Any = system.network
    unfolded = PGD(
        data_fidelity=L2(),
        prior=[PnP(denoiser=denoiser) for denoiser in network.denoisers],
        stepsize=network.step_sizes.tolist(),
        lambda_reg=1.0,
        max_iter=network.stages,
        custom_init=initial_reconstruction,
        unfold=True,
        trainable_params=["stepsize"],
    )
    return System(unfolded.to(memory_format=torch.channels_last), system.physics)


VARIANTS: dict[str, Callable[[Experiment], System]] = {
    "lorun": partial(_system, "lorun"),
    "lorun_recomputed": partial(_system, "lorun", recompute="stage"),
    "lorun_by_halves": partial(_system, "lorun", recompute="half_stage"),
    "lorun_bfloat16": partial(_system, "lorun"),
    "lorun_by_peft": partial(_system, "lorun", peft=True),
    "block_k": partial(_system, "block_k"),
    "block_k_recomputed": partial(_system, "block_k", recompute="stage"),
    "deepinv_unfolded": _deepinv,
}
"""What builds the system of each variant, freshly initialised."""


def for_variant(experiment: Experiment, name: str, device: torch.device) -> Experiment:
    """The experiment in the precision of a variant: bfloat16 if its name says so, else `auto` on a GPU and float32 on a
    CPU.
    """
    if name.endswith("_bfloat16"):
        return resized(experiment, training={"precision": "bfloat16"})
    return resized(experiment, training={"precision": "auto" if device.type == "cuda" else "float32"})


def one_step(system: System, experiment: Experiment, device: torch.device) -> Work:
    """A step as the training loop makes it, on one batch of random patches."""
    size = experiment.accounting
    system.to(device).train()
    x = torch.rand(size.batch, experiment.channels, size.patch, size.patch).to(device)
    physics = training_physics(system, (size.patch, size.patch))
    optimizer = make_optimizer(system, training_of(experiment), device)
    assert optimizer is not None

    def step() -> None:
        training_step(system, physics, x, optimizer, training_of(experiment))
        wait_for(device)

    return step


def large_convolution(device: torch.device) -> Work:
    """A 3 x 3 convolution in float32 of `LARGE` size: about what a machine computes at most.

    It has `LARGE_FLOPS`. A product of matrices is no such limit: MKL computes it at 0.4 of this speed on an AMD EPYC.
    """
    images, channels, side = LARGE
    x = torch.rand(images, channels, side, side, device=device).to(memory_format=torch.channels_last)
    convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False, device=device)
    convolution.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def convolve() -> None:
        convolution(x)
        wait_for(device)

    return convolve


def reconstruction(network: nn.Module, physics: Any, experiment: Experiment, device: torch.device) -> Work:
    """The reconstruction of one random image from its measurement."""
    side = experiment.accounting.image
    network.to(device).eval()
    physics = physics.to(device).eval().at(side, side)
    with torch.no_grad():
        y = physics(torch.rand(1, experiment.channels, side, side).to(device))

    @torch.no_grad()
    def reconstruct() -> None:
        network(y, physics)
        wait_for(device)

    return reconstruct
