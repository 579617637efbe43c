"""`lorun train`: train a run."""

from pathlib import Path

import typer

from lorun.cli.data import Data
from lorun.cli.options import Config, Device, Method, Runs, Seed, Setting, Task

ENDED_WITHOUT_RESULT = 3
"""Exit status of a training that diverged or ran out of memory. This is recorded and appears in the tables."""


def train(
    config: Config,
    task: Task,
    setting: Setting,
    method: Method,
    seed: Seed = 0,
    runs: Runs = Path("runs"),
    data: Data = Path("data"),
    device: Device = "auto",
) -> None:
    """Train one run, or resume it. A finished run is left alone.

    Exit status 3: the training diverged or ran out of memory; this is recorded as its result.

    On several GPUs, or with several processes on CPUs, which share every batch (same result up to rounding):

    torchrun --nproc-per-node 4 -m lorun train --config ...
    """
    from lorun.devices import pick_device
    from lorun.profiles import load_profile
    from lorun.training import train as train_one
    from lorun.training.distributed import process_group

    profile = load_profile(config, task)
    experiment = profile.experiment(task, setting, method, seed)
    profile.check_tuned(task, method)
    with process_group(pick_device(device)) as (group, own_device):
        outcome = train_one(experiment, runs=runs, data=data, device=own_device, group=group)
        if group.main:
            typer.echo(f"{experiment.name}: {outcome.status} after {outcome.steps} steps: {runs / experiment.folder}")
            if outcome.status != "completed":
                typer.echo(f"{outcome.status}: {outcome.message}", err=True)
    if outcome.status != "completed":
        raise typer.Exit(ENDED_WITHOUT_RESULT)
