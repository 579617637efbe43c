"""Training steps and reconstructions of every variant: seconds and bytes (`steps.csv`), and targets (`targets.csv`)."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import nan
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from lorun.accounting.flops import step_flops
from lorun.accounting.live_bytes import inference_bytes, training_step_bytes
from lorun.accounting.prediction import resized
from lorun.bench.rounds import Work, spread, take_turns, verdict
from lorun.bench.variants import (
    LARGE_FLOPS,
    VARIANTS,
    benchmarked,
    for_variant,
    large_convolution,
    one_step,
    reconstruction,
    training_of,
    where,
)
from lorun.devices import pick_device
from lorun.methods import Experiment
from lorun.profiles import load_profile
from lorun.system import training_physics

What = Literal["training step", "reconstruction"]
Quantity = Literal["time", "peak bytes", "parameters held"]

COMPARED: dict[What, tuple[str, ...]] = {
    "training step": tuple(VARIANTS),
    "reconstruction": ("lorun", "lorun_by_peft", "block_k"),
}

LARGE_CONVOLUTION = "large_convolution"
"""Large convolutions with as many FLOPs, in float32, as a training step of `lorun`: timed only."""

_COLUMNS = {"peak bytes": "peak_bytes", "parameters held": "network_bytes_held"}


@dataclass(frozen=True)
class Measured:
    """The variants of one kind of work, at the sizes of one profile.

    seconds  a column per variant, and for training steps one of `LARGE_CONVOLUTION`; a row per round
    counts   a row per variant: peak_bytes, peak_activations, network_bytes_held, parameters
    """

    profile: str
    what: What
    experiment: Experiment
    seconds: pd.DataFrame
    counts: pd.DataFrame

    def ratio(self, quantity: Quantity, variant: str, reference: str) -> pd.Series:
        """The ratio of two variants: one value per round for times, a single value for bytes."""
        if quantity == "time":
            return self.seconds[variant] / self.seconds[reference]
        counts = self.counts[_COLUMNS[quantity]]
        return pd.Series([counts[variant] / counts[reference]])


def prepare(config: Path, variant: str, what: What, threads: int) -> Work:
    """The work of a variant, for the process that repeats it."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    experiment = benchmarked(load_profile(config))
    device = pick_device("auto")
    if variant == LARGE_CONVOLUTION:
        return large_convolution(device)
    experiment = for_variant(experiment, variant, device)
    system = VARIANTS[variant](experiment)
    if what == "training step":
        return one_step(system, experiment, device)
    return reconstruction(system.network, system.physics, experiment, device)


def measure(config: Path, what: What, *, repeats: int, threads: int) -> Measured:
    """Time and count all variants at the sizes of a profile, on the GPU if there is one.

    Raises:
        LorunError: the profile has no setting with LoRun; a variant failed.
    """
    experiment = benchmarked(load_profile(config))
    extra = [LARGE_CONVOLUTION] if what == "training step" else []
    jobs = {name: partial(prepare, config, name, what, threads) for name in [*COMPARED[what], *extra]}
    seconds = take_turns(jobs, repeats, f"{config.stem}: {what}")
    if extra:
        size = experiment.accounting
        flops = step_flops(resized(experiment, training={"batch": size.batch, "patch": size.patch}))
        seconds[LARGE_CONVOLUTION] *= flops / LARGE_FLOPS
    counts = pd.DataFrame({name: count(experiment, name, what) for name in COMPARED[what]}).T
    return Measured(config.stem, what, experiment, seconds, counts)


def count(experiment: Experiment, variant: str, what: What) -> dict[str, int]:
    """Bytes that are live at the peak of a training step or a reconstruction, bytes held, and parameters."""
    experiment = for_variant(experiment, variant, torch.device("cpu"))
    size, channels = experiment.accounting, experiment.channels
    is_step = what == "training step"
    side = size.patch if is_step else size.image

    def build() -> tuple[Any, Any]:
        system = VARIANTS[variant](experiment)
        return system.network, training_physics(system, (side, side)) if is_step else system.physics.at(side, side)

    fake = variant != "deepinv_unfolded"  # deepinv branches on values, which fake tensors do not have
    if is_step:
        peak = training_step_bytes(build, (size.batch, channels, side, side), training_of(experiment), fake=fake)
    else:
        peak = inference_bytes(build, (1, channels, side, side), fake=fake)
    system = VARIANTS[variant](experiment)
    # A network may keep tensors after its first call.
    reconstruction(system.network, system.physics, experiment, torch.device("cpu"))()
    return {
        "peak_bytes": peak.total,
        "peak_activations": peak.activations,
        "network_bytes_held": bytes_held(system.network),
        "parameters": sum(parameter.numel() for parameter in system.network.parameters()),
    }


def bytes_held(network: nn.Module) -> int:
    """Bytes that a network holds between reconstructions: all tensors in attributes of its modules.

    This includes tensors that are neither parameters nor buffers, e.g. a merged copy of a weight.
    """
    storages: dict[int, int] = {}
    for module in network.modules():
        for tensor in tree_leaves({name: value for name, value in vars(module).items() if name != "_modules"}):
            if isinstance(tensor, Tensor):
                storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(storages.values())


def table(measured: Iterable[Measured], threads: int) -> pd.DataFrame:
    """A row per variant: seconds, their ratio to those of `lorun` in the same round, and bytes."""
    rows = []
    for one in measured:
        size, is_step = one.experiment.accounting, one.what == "training step"
        for variant, seconds in one.seconds.items():
            rows.append(
                {
                    "profile": one.profile,
                    "what": one.what,
                    "variant": variant,
                    "stages": one.experiment.stages,
                    "batch": size.batch if is_step else 1,
                    "side": size.patch if is_step else size.image,
                    **spread("seconds", seconds, 5, "seconds_"),
                    "repeats": len(seconds),
                    **spread("time_to_lorun", one.ratio("time", str(variant), "lorun"), 4, "time_to_lorun_"),
                    **one.counts.drop(columns="parameters").reindex([variant]).iloc[0],
                    **where(threads, "auto"),
                }
            )
    counted = ["peak_bytes", "peak_activations", "network_bytes_held"]
    return pd.DataFrame(rows).astype(dict.fromkeys(counted, "Int64"))  # empty for the large convolution


@dataclass(frozen=True)
class Target:
    """A limit on the ratio of `variant` to `reference`; a limit of None is the ratio of their parameter counts."""

    what: What
    quantity: Quantity
    variant: str
    reference: str
    limit: float | None
    on_gpu: bool = False

    @property
    def name(self) -> str:
        gpu = " on a GPU in bfloat16" if self.on_gpu else ""
        return f"{self.what}{gpu}, {self.quantity}: {self.variant} / {self.reference}"


TARGETS = (
    Target("training step", "time", "lorun", "lorun_by_peft", 0.50, on_gpu=True),
    Target("training step", "time", "lorun", "lorun_by_peft", 0.80),
    Target("training step", "time", "lorun_bfloat16", "lorun", 0.55),
    Target("training step", "time", "lorun", LARGE_CONVOLUTION, 1 / 0.45),
    Target("training step", "peak bytes", "lorun_by_halves", "block_k", 0.12),
    Target("training step", "time", "lorun_by_halves", "block_k", 1.25),
    Target("training step", "time", "lorun", "deepinv_unfolded", 1.0),
    Target("training step", "peak bytes", "lorun", "deepinv_unfolded", 0.25),
    Target("training step", "time", "lorun_recomputed", "deepinv_unfolded", 1.0),
    Target("training step", "peak bytes", "lorun_recomputed", "deepinv_unfolded", 0.25),
    Target("reconstruction", "time", "lorun", "block_k", 1.03),
    Target("reconstruction", "time", "lorun", "lorun_by_peft", 0.70),
    Target("reconstruction", "parameters held", "lorun", "block_k", None),
)


def judge(measured: Iterable[Measured], on_gpu: bool) -> pd.DataFrame:
    """A row per target and profile: the median ratio, its quartiles for times, the limit, and pass or miss.

    The target for a GPU is listed as not measured without one.
    """
    rows = []
    for one, target in product(measured, TARGETS):
        if target.what == one.what:
            measurable = on_gpu or not target.on_gpu
            ratio = one.ratio(target.quantity, target.variant, target.reference) if measurable else pd.Series([nan])
            parameters = one.counts.parameters
            limit = target.limit or parameters[target.variant] / parameters[target.reference]
            rows.append(verdict(one.profile, target.name, ratio, limit))
    return pd.DataFrame(rows)
