"""What the training loop chose on a CPU, each choice against its alternative, in whole steps (`loop.csv`)."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lorun.bench.machine import where
from lorun.bench.rounds import Job, Spread, ratio, take_turns
from lorun.bench.variants import benchmarked, build_variant
from lorun.data.patches import PatchStream
from lorun.profiles import load_profile
from lorun.step import make_optimizer, training_step
from lorun.system import training_physics

#: name -> (what the loop does otherwise, threads more or less)
ALTERNATIVES = {
    "as_it_is": "",
    "contiguous": "weights and images in PyTorch's usual order instead of channels last",
    "one_by_one": "Adam one tensor at a time instead of fused",
    "no_prefetch": "each batch made when it is needed instead of in a thread ahead",
    "one_thread": "one thread instead of all",
    "compiled": "the denoiser by torch.compile, which serves all stages; needs a C++ compiler",
}


def prepare(config: str, alternative: str) -> Callable[[], None]:
    """What a worker repeats: a step of LoRun, its batch included."""
    torch.manual_seed(0)
    experiment = benchmarked(load_profile(config))
    training, size = experiment.training, experiment.accounting
    system = build_variant("lorun", experiment).train()
    if alternative == "contiguous":
        system.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if alternative == "compiled":
        system.network.compile()
    cpu = torch.device("cpu")
    optimizer = make_optimizer(system, training, cpu)
    assert optimizer is not None
    if alternative == "one_by_one":
        optimizer = torch.optim.Adam(optimizer.param_groups[0]["params"], lr=0.0, foreach=False, fused=False)
    physics = training_physics(system, size.patch)
    batches = _batches(experiment.channels, size.patch, size.batch, ahead=alternative != "no_prefetch")

    def step() -> None:
        training_step(system, physics, next(batches), optimizer, training)

    return step


def _batches(channels: int, patch: int, batch: int, ahead: bool) -> Iterator[Tensor]:
    """Patches of random images of the size of BSDS500's."""
    random = np.random.default_rng(0)
    images = {str(i): random.integers(0, 256, (channels, 321, 481), np.uint8) for i in range(16)}
    stream = PatchStream(images, patch, batch, 0)
    return stream.batches(0, 1 << 30) if ahead else (stream.batch(step) for step in range(1 << 30))


def measure(config: Path, *, repeats: int, threads: int) -> pd.DataFrame:
    """A row per alternative: seconds of a step, and their ratio to those of the loop as it is, in the same round."""
    names = [name for name in ALTERNATIVES if name != "compiled" or shutil.which("c++")]
    jobs = {
        name: Job(
            f"{__name__}:prepare", {"config": str(config), "alternative": name}, 1 if "one_thread" in name else threads
        )
        for name in names
    }
    times = take_turns(jobs, repeats, f"{config.stem}: loop")
    rows = []
    for name in names:
        time, relative = Spread.of(times[name]), ratio(times[name], times["as_it_is"])
        rows.append(
            {
                "profile": config.stem,
                "alternative": name,
                "meaning": ALTERNATIVES[name],
                "seconds": round(time.median, 5),
                "time_to_as_it_is": round(relative.median, 4),
                "q25": round(relative.low, 4),
                "q75": round(relative.high, 4),
                "repeats": repeats,
                **where(jobs[name].threads, "cpu"),
            }
        )
    return pd.DataFrame(rows)
