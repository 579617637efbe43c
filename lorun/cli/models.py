"""`lorun models`: trained networks as folders that travel."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from lorun.cli.options import Config, Data, Device, Method, Runs, Seed, Setting, Task
from lorun.errors import LorunError

models_app = typer.Typer(help="Trained networks with their operators, as folders that travel.", no_args_is_help=True)

AModel = Annotated[str, Argument(help="Name of a model, a folder, or OWNER/NAME on the Hugging Face Hub.")]


@models_app.command("save")
def save_model(
    config: Config,
    task: Task,
    setting: Setting,
    method: Method,
    seed: Seed = 0,
    runs: Runs = Path("runs"),
    data: Data = Path("data"),
    name: Annotated[str | None, Option(help="Of the model; default: TASK-SETTING-METHOD, with -seedN.")] = None,
    half: Annotated[bool, Option("--half", help="Half precision, if the first score hardly changes.")] = False,
    force: Annotated[bool, Option("--force", help="Replace a model of this name.")] = False,
    device: Device = "auto",
) -> None:
    """Make a model of a finished run in models/: weights, configuration, adapters in peft's format, and a card.

    With --half it is scored once more, on its test set with the fewest images, and refused where the first score
    changes by more than 0.01 dB.
    """
    from lorun.devices import pick_device
    from lorun.models.making import halved, make_model
    from lorun.models.model import check_name, save
    from lorun.profiles import load_profile

    experiment = load_profile(config, task).experiment(task, setting, method, seed)
    name = check_name(name or f"{task}-{setting}-{method}" + (f"-seed{seed}" if seed else ""))
    folder = Path("models") / name
    if folder.exists() and not force:
        raise LorunError(f"{folder}: exists; choose another name with --name, or replace it with --force")
    model = make_model(experiment, runs=runs)
    if half:
        model = halved(model, data, pick_device(device))
    save(model, folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    typer.echo(f"{experiment.name}: {model.description.precision}, {size / 1e6:.2f} MB: {folder}")


@models_app.command("list")
def list_models() -> None:
    """List the models in models/, here and in the suite, which `lorun restore` and `from_pretrained` take by name."""
    from lorun.models.model import PLACES, listing

    typer.echo(listing(*PLACES))


@models_app.command("score")
def score_model(
    model: AModel,
    dataset: Annotated[str | None, Option(help="Test set; default: the one with the fewest images.")] = None,
    data: Data = Path("data"),
    device: Device = "auto",
) -> None:
    """Score a model again on a test set, and print the scores beside those that it was committed with."""
    from tabulate import tabulate

    from lorun.devices import pick_device
    from lorun.models import from_pretrained
    from lorun.models.making import compare_scores

    compared = compare_scores(from_pretrained(model), dataset, data, pick_device(device))
    lines = [[*(str(one) for one in line[:3]), *(f"{one:.6f}" for one in line[3:])] for line in compared]
    titles = ["test set", "protocol", "metric", "committed", "here", "difference"]
    typer.echo(tabulate(lines, titles, "plain", disable_numparse=True))
