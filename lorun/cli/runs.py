"""`lorun config`, `train`, `evaluate`, `account` and `list`, which take a profile; and `lorun score` without one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from typer import Argument, Option

from lorun.cli.options import Config, Data, Device, Images, Method, Runs, Seed, Setting, Table, Task
from lorun.config import Recompute
from lorun.errors import LorunError, one_of

if TYPE_CHECKING:
    from lorun.evaluation.reconstruct import Evaluation

config_app = typer.Typer(help="Profiles.", no_args_is_help=True)

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
    track: Annotated[str | None, Option(envvar="LORUN_TRACK", help="Follow it: tensorboard, mlflow, wandb.")] = None,
) -> None:
    """Train one run, or resume it. A finished run is left alone.

    Exit status 3: the training diverged or ran out of memory; this is recorded as its result.

    On several GPUs, or with several processes on CPUs, which share every batch (same result up to rounding):

    torchrun --nproc-per-node 4 -m lorun train --config ...
    """
    from lorun.devices import pick_device
    from lorun.profiles import load_profile
    from lorun.profiles.references import check_references
    from lorun.training import train as train_one
    from lorun.training.distributed import process_group

    profile = load_profile(config, task)
    experiment = profile.experiment(task, setting, method, seed)
    check_references(profile, data, task)
    profile.check_tuned(task, method)
    with process_group(pick_device(device)) as (group, own_device):
        outcome = train_one(experiment, runs=runs, data=data, device=own_device, group=group, tracker=track)
        if group.main:
            typer.echo(f"{experiment.name}: {outcome.status} after {outcome.steps} steps: {runs / experiment.folder}")
            if outcome.status != "completed":
                typer.echo(f"{outcome.status}: {outcome.message}", err=True)
    if outcome.status != "completed":
        raise typer.Exit(ENDED_WITHOUT_RESULT)


def evaluate(
    config: Config,
    task: Task,
    setting: Setting,
    method: Method,
    seed: Seed = 0,
    runs: Runs = Path("runs"),
    data: Data = Path("data"),
    device: Device = "auto",
    images: Annotated[Path | None, Option(help="Score this folder of images instead of the test sets.")] = None,
    out: Annotated[Path | None, Option(dir_okay=False, help="Table; default: in the run, or FOLDER.csv.")] = None,
) -> None:
    """Score a trained run: one row per image, degradation, protocol and metric.

    See `lorun score` for a baseline with your own files, `lorun adapters evaluate` for the adapter store.
    """
    from lorun.devices import scoring_device
    from lorun.evaluation.reconstruct import evaluate as evaluate_run
    from lorun.evaluation.reconstruct import evaluate_folder
    from lorun.profiles import load_profile
    from lorun.results.paths import EVALUATION

    experiment = load_profile(config, task).experiment(task, setting, method, seed)
    if images is None:
        scored = evaluate_run(experiment, runs=runs, data=data, device=scoring_device(device))
        write_scores(scored, out or runs / experiment.folder / EVALUATION)
    else:
        scored = evaluate_folder(experiment, images, runs=runs, device=scoring_device(device))
        write_scores(scored, out or table_of(images))


def score(
    method: Annotated[str, Option(help="Baseline: its name, or the path of its folder.")],
    images: Images,
    weights: Annotated[Path | None, Option(help="Released weights (.pkl, .pth, .safetensors).")] = None,
    matrix: Annotated[Path | None, Option(help="Sampling matrix, .npy or .mat (`phi`), m x block^2.")] = None,
    initial: Annotated[str | None, Option(help="File of `Qinit`, or adjoint, or pseudo_inverse.")] = None,
    padding: Annotated[str, Option(help="To whole blocks: always (the ISTA-Net family) or needed.")] = "always",
    protocol: Annotated[list[str] | None, Option(help="Protocol; may be repeated. Default: cs_float_y.")] = None,
    out: Table = None,
    device: Device = "auto",
) -> None:
    """Score a baseline of compressed sensing on your own images, weights and sampling matrix, without a profile.

    lorun score --method ista_net --weights net_params_200.pkl --matrix phi_0_25_1089.mat
    --initial Initialization_Matrix_25.mat --images Set11
    """
    from lorun.devices import scoring_device
    from lorun.evaluation.files import score_files

    scored = score_files(
        method,
        images,
        weights=weights,
        matrix=matrix,
        initial=initial,
        padding=one_of("padding", padding, ["always", "needed"]),
        protocols=protocol or ["cs_float_y"],
        device=scoring_device(device),
    )
    write_scores(scored, out or table_of(images))


def account(
    config: Config,
    task: Task,
    setting: Setting,
    method: Method,
    seed: Seed = 0,
    runs: Runs = Path("runs"),
    device: Device = "auto",
    out: Annotated[Path | None, Option(help="JSON file to write; default: in the folder of the method.")] = None,
    batch: Annotated[int | None, Option(min=1, help="Patches of a step, instead of the profile's.")] = None,
    patch: Annotated[int | None, Option(min=1, help="Side of a patch, pixels.")] = None,
    image: Annotated[int | None, Option(min=1, help="Side of the reconstructed image, pixels.")] = None,
    stages: Annotated[int | None, Option(min=1, max=100, help="K.")] = None,
    recompute: Annotated[str | None, Option(help="none, stage, half_stage, or auto (with --budget).")] = None,
    precision: Annotated[str | None, Option(help="float32, or bfloat16; auto counts as float32.")] = None,
    budget: Annotated[float | None, Option(min=0, help="MB (10^6 bytes): largest batch that fits.")] = None,
    latency: Annotated[bool, Option(help="Measure the latency, which needs the memory of the network.")] = True,
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
        training["recompute"] = one_of("recompute", recompute, [*get_args(Recompute), "auto"])
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


@config_app.command("check")
def check_config(config: Annotated[Path, Argument(help="Profile to check.")], data: Data = Path("data")) -> None:
    """Check a profile, and that the protocols, datasets and files that it names exist; print its size."""
    from lorun.profiles import load_profile
    from lorun.profiles.references import check_references

    profile = load_profile(config)
    check_references(profile, data)
    count = sum(1 for _ in profile.experiments())
    typer.echo(f"{config}: profile {profile.profile!r}, {len(profile.tasks)} tasks, {count} experiments")


@config_app.command("schema")
def print_schema() -> None:
    """Print the JSON schema of profiles (the committed one is workflow/schemas/profile.schema.json)."""
    from lorun.profiles import profile_schema

    typer.echo(json.dumps(profile_schema(), indent=1))


def list_runs(config: Config, runs: Runs = Path("runs")) -> None:
    """List the runs of a profile and their status."""
    from lorun.profiles import load_profile
    from lorun.training.outcome import check_files, read_outcome

    for experiment in load_profile(config).experiments():
        folder, damage = runs / experiment.folder, ""
        status = "started" if (folder / "checkpoint.pt").exists() else "not started"
        try:
            outcome = read_outcome(folder)
            if outcome is not None:
                check_files(folder, outcome)
                status = outcome.status
        except LorunError as error:
            status, damage = "damaged", f"  {error}"
        typer.echo(f"{status:14}  {experiment.name:40}  {folder}{damage}")


def table_of(images: Path) -> Path:
    """The default table for the scores of a folder of images."""
    return Path(f"{images.resolve().name}.csv")


def write_scores(scored: "Evaluation", out: Path) -> None:
    """Write the rows of a run as a table, and the run as JSON next to it; print their means."""
    from pandas import DataFrame

    from lorun.results.store import write_evaluation

    write_evaluation(out, *scored)
    run = "{task}/{setting}/{method} seed {seed}".format(**scored.run)
    if not scored.rows:
        typer.echo(f"{run}: {scored.run['status']}, nothing to score: {out}")
        return
    frame = DataFrame(scored.rows)
    for dataset, group in frame.groupby("dataset", sort=False):
        means = group.groupby(group.protocol + " " + group.metric, sort=False)["value"].mean()
        typer.echo(f"{run}: {dataset}: {', '.join(f'{name} {value:.4f}' for name, value in means.items())}: {out}")
