"""Training steps and reconstructions of every variant: seconds, live bytes, parameters held (`steps.csv`)."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from lorun.accounting import inference_bytes, training_step_bytes
from lorun.bench.rounds import Job, ratio, take_turns
from lorun.bench.variants import benchmarked, build_variant, one_step, reconstruction
from lorun.config import Experiment, load_profile
from lorun.devices import pick_device
from lorun.provenance import provenance

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


def prepare(config: str, variant: str, what: What, device: str) -> Callable[[], None]:
    """What a worker repeats."""
    torch.manual_seed(0)
    experiment = benchmarked(load_profile(config))
    make = one_step if what == "training step" else reconstruction
    return make(build_variant(variant, experiment), experiment, pick_device(device))


def measure(config: Path, what: What, *, repeats: int, threads: int, device: str) -> pd.DataFrame:
    """A row per variant: times, their ratio to `lorun` round by round, counted bytes at the same sizes."""
    experiment = benchmarked(load_profile(config))
    variants = COMPARED[what]
    jobs = {
        variant: Job(
            f"{__name__}:prepare",
            {"config": str(config), "variant": variant, "what": what, "device": device},
            threads,
        )
        for variant in variants
    }
    times = take_turns(jobs, repeats, f"{config.stem}: {what}")
    size = experiment.accounting
    where = provenance(experiment, {}, pick_device(device)) | {"threads": threads}
    rows = []
    for variant in variants:
        relative = ratio(times[variant], times["lorun"])
        rows.append(
            {
                "profile": config.stem,
                "what": what,
                "variant": variant,
                "stages": experiment.stages,
                "batch": size.batch if what == "training step" else 1,
                "side": size.patch if what == "training step" else size.image,
                **times[variant].record(),
                **dict(zip(("ratio_to_lorun", "ratio_min", "ratio_max"), relative, strict=True)),
                **count(experiment, variant, what),
                **{name: where[name] for name in ("device", "threads", "commit", "dirty", "versions")},
            }
        )
    return pd.DataFrame(rows)


def count(experiment: Experiment, variant: str, what: What) -> dict[str, Any]:
    """Live bytes at the peak, and those of parameters alone."""
    size = experiment.accounting
    channels = experiment.data.channels

    def build(side: int, padding: Literal["needed"] | None) -> tuple[Any, Any]:
        system = build_variant(variant, experiment)
        return system.network, system.physics.at(side, side, padding=padding)

    fake = variant != "deepinv_unfolded"
    if what == "training step":
        shape = (size.batch, channels, size.patch, size.patch)
        peak = training_step_bytes(partial(build, size.patch, "needed"), shape, experiment.training, fake=fake)
    else:
        peak = inference_bytes(partial(build, size.image, None), (1, channels, size.image, size.image), fake=fake)
    return {"peak_bytes": peak.total, "parameter_bytes": peak.parameters, "activation_bytes": peak.activations}
