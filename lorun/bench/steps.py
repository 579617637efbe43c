"""Training steps and reconstructions of every variant: seconds, live bytes, parameters held (`steps.csv`)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lorun.accounting import inference_bytes, training_step_bytes
from lorun.accounting.live_bytes import Peak
from lorun.bench.machine import where
from lorun.bench.rounds import Job, Spread, Times, ratio, take_turns
from lorun.bench.variants import benchmarked, build_variant, one_step, reconstruction
from lorun.devices import pick_device
from lorun.methods import Experiment
from lorun.profiles import load_profile
from lorun.system import training_physics

What = Literal["training step", "reconstruction"]

COMPARED: dict[What, tuple[str, ...]] = {
    "training step": (
        "lorun",
        "lorun_recomputed",
        "lorun_by_peft",
        "block_k",
        "block_k_recomputed",
        "deepinv_unfolded",
    ),
    "reconstruction": ("lorun", "lorun_by_peft", "block_k"),
}


@dataclass(frozen=True)
class Measured:
    """What was found of the variants of one piece of work at the sizes of one profile."""

    profile: str
    what: What
    experiment: Experiment
    times: Times
    peaks: dict[str, Peak]
    held: dict[str, int]
    parameters: dict[str, int]

    def time_ratio(self, of: str, to: str) -> Spread:
        return ratio(self.times[of], self.times[to])

    def bytes_ratio(self, of: str, to: str) -> float:
        return self.peaks[of].total / self.peaks[to].total

    def held_ratio(self, of: str, to: str) -> float:
        return self.held[of] / self.held[to]

    def parameter_ratio(self, of: str, to: str) -> float:
        return self.parameters[of] / self.parameters[to]


def prepare(config: str, variant: str, what: What, device: str) -> Callable[[], None]:
    """What a worker repeats."""
    torch.manual_seed(0)
    experiment = benchmarked(load_profile(config))
    make = one_step if what == "training step" else reconstruction
    return make(build_variant(variant, experiment), experiment, pick_device(device))


def measure(config: Path, what: What, *, repeats: int, threads: int, device: str) -> Measured:
    """Time and count all variants of `what` at the sizes of a profile.

    Raises:
        LorunError: the profile has no task with LoRun; a variant failed.
    """
    experiment = benchmarked(load_profile(config))
    jobs = {
        variant: Job(
            f"{__name__}:prepare",
            {"config": str(config), "variant": variant, "what": what, "device": device},
            threads,
        )
        for variant in COMPARED[what]
    }
    times = take_turns(jobs, repeats, f"{config.stem}: {what}")
    peaks = {variant: count(experiment, variant, what) for variant in COMPARED[what]}
    held, parameters = {}, {}
    for variant in COMPARED[what]:
        system = build_variant(variant, experiment)
        reconstruction(system, experiment, torch.device("cpu"))()  # which may leave something behind
        held[variant] = bytes_held(system.network)
        parameters[variant] = sum(parameter.numel() for parameter in system.network.parameters())
    return Measured(config.stem, what, experiment, times, peaks, held, parameters)


def count(experiment: Experiment, variant: str, what: What) -> Peak:
    """Live bytes when most are live."""
    size = experiment.accounting
    channels = experiment.channels

    def for_step() -> tuple[Any, Any]:
        system = build_variant(variant, experiment)
        return system.network, training_physics(system, size.patch)

    def for_image() -> tuple[Any, Any]:
        system = build_variant(variant, experiment)
        return system.network, system.physics.at(size.image, size.image)

    fake = not getattr(build_variant(variant, experiment).network, "data_dependent", False)
    if what == "training step":
        shape = (size.batch, channels, size.patch, size.patch)
        return training_step_bytes(for_step, shape, experiment.training, fake=fake)
    return inference_bytes(for_image, (1, channels, size.image, size.image), fake=fake)


def bytes_held(network: nn.Module) -> int:
    """What a network holds between reconstructions: every tensor that hangs on one of its modules, once.

    Not only parameters and buffers: a merged copy of a weight, kept as a plain attribute, counts too.
    """
    found: dict[int, int] = {}
    for module in network.modules():
        held = {key: value for key, value in vars(module).items() if key != "_modules"}
        for tensor in tree_leaves(held):
            if isinstance(tensor, Tensor):
                found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(found.values())


def table(measured: list[Measured], threads: int, device: str) -> pd.DataFrame:
    """A row per variant: seconds, and their ratio to those of `lorun` in the same round; bytes counted."""
    rows = []
    for one in measured:
        size = one.experiment.accounting
        for variant, seconds in one.times.items():
            time, relative, peak = Spread.of(seconds), one.time_ratio(variant, "lorun"), one.peaks[variant]
            rows.append(
                {
                    "profile": one.profile,
                    "what": one.what,
                    "variant": variant,
                    "stages": one.experiment.stages,
                    "batch": size.batch if one.what == "training step" else 1,
                    "side": size.patch if one.what == "training step" else size.image,
                    "seconds": round(time.median, 5),
                    "seconds_q25": round(time.low, 5),
                    "seconds_q75": round(time.high, 5),
                    "repeats": len(seconds),
                    "time_to_lorun": round(relative.median, 4),
                    "time_to_lorun_q25": round(relative.low, 4),
                    "time_to_lorun_q75": round(relative.high, 4),
                    "peak_bytes": peak.total,
                    "peak_activations": peak.activations,
                    "network_bytes_held": one.held[variant],
                    **where(threads, device),
                }
            )
    return pd.DataFrame(rows)
