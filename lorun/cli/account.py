"""`lorun account`: parameters, memory and FLOPs, without training."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lorun.cli.options import Config, Device, Method, Runs, Seed, Setting, Task, one_of


def account(
    config: Config,
    task: Task,
    setting: Setting,
    method: Method,
    seed: Seed = 0,
    runs: Runs = Path("runs"),
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="JSON file to write; default: in the folder of the method.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Patches of a step, instead of the profile's.")] = None,
    patch: Annotated[int | None, typer.Option(min=1, help="Side of a patch, pixels.")] = None,
    image: Annotated[int | None, typer.Option(min=1, help="Side of the reconstructed image, pixels.")] = None,
    stages: Annotated[int | None, typer.Option(min=1, max=100, help="K.")] = None,
    recompute: Annotated[str | None, typer.Option(help="none, stage, or auto (with --budget).")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, or bfloat16; auto counts as float32.")] = None,
    budget: Annotated[float | None, typer.Option(min=0, help="MB (10^6 bytes): largest batch that fits.")] = None,
    latency: Annotated[bool, typer.Option(help="Measure the latency, which needs the memory of the network.")] = True,
) -> None:
    """Count parameters, live bytes and FLOPs of a method and measure its latency. Needs no training and no data.

    The bytes are those of the training step, at the sizes of the profile or at those given. They are counted, so that
    the step need not fit this machine.
    """
    from lorun.accounting.account import account as account_one
    from lorun.accounting.prediction import largest_batches, resized
    from lorun.accounting.report import render, summarise
    from lorun.devices import pick_device
    from lorun.files import write_text
    from lorun.profiles import load_profile
    from lorun.results.paths import account_path

    experiment = load_profile(config, task).experiment(task, setting, method, seed)
    training: dict[str, Any] = {}
    if recompute is not None:
        training["recompute"] = one_of("recompute", recompute, ["none", "stage", "auto"])
        training["memory_budget"] = None
    if budget is not None and (recompute or (experiment.training and experiment.training.recompute)) == "auto":
        training["memory_budget"] = budget
    if precision is not None:
        training["precision"] = one_of("precision", precision, ["auto", "float32", "bfloat16"])
    experiment = resized(experiment, batch=batch, patch=patch, image=image, stages=stages, training=training)
    record = account_one(experiment, pick_device(device), latency=latency)
    out = out or account_path(runs, experiment)
    write_text(out, json.dumps(record, indent=1) + "\n")
    largest = None
    if budget is not None and record["step_total"] is not None:
        largest = largest_batches(experiment, experiment.accounting.patch, 1e6 * budget)
    typer.echo(f"{task}/{setting}/{method}: {summarise(record)}: {out}")
    typer.echo(render(record, largest))
