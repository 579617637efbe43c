"""The command line: everything the workflow does, for a person to do by hand."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lorun import __version__
from lorun.cli.adapters import Library, adapters_app
from lorun.cli.bench import bench, scaling
from lorun.cli.contract import contract
from lorun.cli.data import Data, data_app
from lorun.cli.gate import gate
from lorun.cli.history import history
from lorun.cli.new import new_app
from lorun.cli.report import report
from lorun.cli.status import status
from lorun.config import Experiment, load_profile, profile_schema
from lorun.errors import LorunError, UnknownName

ENDED_WITHOUT_RESULT = 3
"""Exit status of a training that diverged or ran out of memory: recorded, and a row of the tables."""

app = typer.Typer(
    help="LoRA-adapted deep unfolding networks for image restoration: train, evaluate, account, tabulate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Profiles.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(adapters_app, name="adapters")
app.add_typer(config_app, name="config")
app.add_typer(new_app, name="new")
app.command()(bench)
app.command()(scaling)
app.command()(contract)
app.command()(report)
app.command()(status)
app.command()(history)
app.command()(gate)

Config = Annotated[Path, typer.Option("--config", "-c", help="Profile, e.g. config/quick.yaml.")]
Task = Annotated[str, typer.Option(help="Task of the profile, e.g. cs.")]
Setting = Annotated[str, typer.Option(help="Setting of the task, e.g. r25.")]
Method = Annotated[str, typer.Option(help="Strategy or baseline of the task, or 'pretrain' (phase 1 of lorun).")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of weights and patches.")]
Runs = Annotated[Path, typer.Option(help="Folder of all runs.")]
Device = Annotated[str, typer.Option(help="auto (the GPU where there is one), cpu or cuda.")]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"lorun {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
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
    """Train one experiment, or go on with it; does nothing when it is done.

    Exit status 3: the training diverged or ran out of memory, and this is recorded.

    On several GPUs, or with several processes on CPUs, which share every batch, to the same result but for rounding:

    torchrun --nproc-per-node 4 -m lorun train --config ...
    """
    from lorun.devices import pick_device
    from lorun.training import train as train_one
    from lorun.training.distributed import process_group

    experiment = load_profile(config).experiment(task, setting, method, seed)
    with process_group(pick_device(device)) as (group, own_device):
        outcome = train_one(experiment, runs=runs, data=data, device=own_device, group=group)
        if group.main:
            typer.echo(f"{experiment.name}: {outcome.status} after {outcome.steps} steps: {runs / experiment.folder}")
            if outcome.status != "completed":
                typer.echo(f"{outcome.status}: {outcome.message}", err=True)
    if outcome.status != "completed":
        raise typer.Exit(ENDED_WITHOUT_RESULT)


@app.command()
def evaluate(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Profile, of a run that was trained.")] = None,
    task: Annotated[str | None, typer.Option(help="Task of the profile, e.g. cs.")] = None,
    setting: Annotated[str | None, typer.Option(help="Setting of the task, e.g. r25.")] = None,
    method: Annotated[str | None, typer.Option(help="Method of the task; or any baseline, with files.")] = None,
    seed: Seed = 0,
    runs: Runs = Path("runs"),
    data: Data = Path("data"),
    device: Device = "auto",
    images: Annotated[
        Path | None, typer.Option(help="Score the images of this folder instead of the test sets.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Table of rows to write; default: evaluation.csv of the run, or FOLDER.csv.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Released weights (.pkl, .pth, .safetensors) of the baseline --method.")
    ] = None,
    matrix: Annotated[Path | None, typer.Option(help="Sampling matrix, .npy or .mat (`phi`), m x block^2.")] = None,
    initial: Annotated[
        str | None, typer.Option(help="Initial estimate: a matrix file (`Qinit`), adjoint or pseudo_inverse.")
    ] = None,
    padding: Annotated[
        str, typer.Option(help="Padding to whole blocks: always (the ISTA-Net family) or needed.")
    ] = "always",
    protocol: Annotated[list[str] | None, typer.Option(help="Protocol, again for several; cs_float_y.")] = None,
    adapters: Annotated[
        str | None, typer.Option(help="Set of adapters of the library, or 'active', instead of a trained run.")
    ] = None,
    library: Library = Path("adapters"),
) -> None:
    """Score a reconstruction: one row per image, degradation (of super-resolution: kernel), metric and protocol.

    A trained run: --config, --task, --setting, --method, and --images for a folder of one's own.

    Files of one's own, without a profile: --method, --images; --weights, --matrix and --initial as they are needed:

    lorun evaluate --method ista_net --weights net_params_200.pkl --matrix phi_0_25_1089.mat
    --initial Initialization_Matrix_25.mat --images Set11

    Adapters of the library: --adapters, --images.
    """
    from lorun.devices import pick_device
    from lorun.results.paths import ROWS
    from lorun.results.rows import to_frame, write_table

    if adapters is not None:
        from lorun.library import evaluate_adapters

        if images is None:
            raise LorunError("name a folder with --images to score adapters on")
        if config or task or setting or method or weights or matrix or initial or protocol:
            raise LorunError("--adapters goes with --library, --images, --out and --device alone: a set says the rest")
        rows = evaluate_adapters(library, adapters, images, pick_device(device))
        out = out or Path(f"{images.resolve().name}.csv")
    elif method is None:
        raise LorunError("name the --method")
    elif config is None:
        from lorun.evaluation.files import evaluate_files

        if images is None:
            raise LorunError("name a profile with --config, or a folder with --images")
        rows = evaluate_files(
            method,
            images,
            weights=weights,
            matrix=matrix,
            initial=initial,
            padding=_choice("padding", padding, ["always", "needed"]),
            protocols=protocol or ["cs_float_y"],
            device=pick_device(device),
        )
        out = out or Path(f"{images.resolve().name}.csv")
    else:
        from lorun.evaluation.reconstruct import evaluate as evaluate_one
        from lorun.evaluation.reconstruct import evaluate_folder

        if task is None or setting is None:
            raise LorunError("name the --task and the --setting of the profile")
        if weights or matrix or initial or protocol:
            raise LorunError("--weights, --matrix, --initial and --protocol go without --config")
        experiment = load_profile(config).experiment(task, setting, method, seed)
        if images is not None:
            rows = evaluate_folder(experiment, images, runs=runs, device=pick_device(device))
            out = out or Path(f"{images.resolve().name}.csv")
        else:
            rows = evaluate_one(experiment, runs=runs, data=data, device=pick_device(device))
            out = out or runs / experiment.folder / ROWS
    frame = to_frame(rows)
    write_table(out, frame)
    what = f"{frame.task[0]}/{frame.setting[0]}/{frame.method[0]} seed {frame.seed[0]}"
    if frame.value.isna().all():
        typer.echo(f"{what}: {frame.status[0]}, nothing to score: {out}")
        return
    for dataset, of in frame.groupby("dataset", sort=False):
        means = of.groupby(of.protocol + " " + of.metric, sort=False)["value"].mean()
        shown = ", ".join(f"{score} {value:.4f}" for score, value in means.items())
        typer.echo(f"{what}: {dataset}: {shown}: {out}")


def _choice(kind: str, name: str, choices: list[str]) -> Any:
    if name not in choices:
        raise UnknownName(kind, name, choices)
    return name


@app.command()
def account(
    config: Config,
    task: Task,
    setting: Setting,
    method: Method,
    seed: Seed = 0,
    runs: Runs = Path("runs"),
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="JSON file to write; default: beside the method's runs.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Patches of the step, instead of the profile's.")] = None,
    patch: Annotated[int | None, typer.Option(min=1, help="Side of a patch, pixels.")] = None,
    image: Annotated[int | None, typer.Option(min=1, help="Side of the reconstructed image, pixels.")] = None,
    stages: Annotated[int | None, typer.Option(min=1, max=100, help="K.")] = None,
    recompute: Annotated[
        str | None, typer.Option(help="What the step recomputes: none, stage, or auto (with --budget).")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, or bfloat16 as on a GPU; auto counts as float32.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(min=0, help="MB (10^6 bytes): print the largest batch whose step fits.")
    ] = None,
    latency: Annotated[bool, typer.Option(help="Measure the latency, which takes real memory.")] = True,
) -> None:
    """Count parameters, live bytes and FLOPs of a method, and measure its latency; needs no training and no data.

    The bytes are those of the step that the training would make, here or at the sizes given, whatever this machine has.
    """
    from lorun.accounting.account import account as account_one
    from lorun.accounting.prediction import largest_batches, resized
    from lorun.accounting.report import render
    from lorun.devices import pick_device
    from lorun.files import write_text
    from lorun.results.paths import account_path

    experiment = load_profile(config).experiment(task, setting, method, seed)
    training: dict[str, Any] = {}
    if recompute is not None:
        training["recompute"] = _choice("recompute", recompute, ["none", "stage", "auto"])
        training["memory_budget"] = None
    if (recompute or experiment.training.recompute) == "auto" and budget is not None:
        training["memory_budget"] = budget
    if precision is not None:
        training["precision"] = _choice("precision", precision, ["auto", "float32", "bfloat16"])
    experiment = resized(experiment, batch=batch, patch=patch, image=image, stages=stages, training=training)
    record = account_one(experiment, pick_device(device), latency=latency)
    out = out or account_path(runs, experiment)
    write_text(out, json.dumps(record, indent=1) + "\n")
    if record["step_total"] is None:
        step, largest = "no training", None
    else:
        step = (
            f"training step {record['step_total'] / 1e6:.1f} MB ({record['step_batch']} patches of "
            f"{record['step_patch']} pixels, {record['step_precision']}, recompute {record['step_recompute']})"
        )
        size = experiment.accounting
        largest = None if budget is None else largest_batches(experiment, size.patch, 1e6 * budget)
    typer.echo(
        f"{task}/{setting}/{method}: network {record['parameters_network']:,} parameters, "
        f"{record['parameters_trainable']:,} trainable; {step}, inference {record['inference_total'] / 1e6:.2f} MB, "
        f"{record['flops'] / 1e9:.2f} GFLOPs: {out}"
    )
    typer.echo(render(record, largest))


@app.command()
def table(
    config: Config,
    runs: Runs = Path("runs"),
    data: Data = Path("data"),
    out: Annotated[Path | None, typer.Option(help="Folder of the result set; default: results/PROFILE.")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Missing runs become rows with their status.")] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="What the result set holds of runs that are not here stays in its tables.")
    ] = False,
    figures: Annotated[bool, typer.Option(help="Draw the figures as well.")] = True,
) -> None:
    """Write the tables and figures of a profile from its runs.

    Runs of several machines, or of which the folders are gone: --keep, and --partial where some were never made.
    """
    from lorun.results.result_set import write_result_set

    profile = load_profile(config)
    folder = out or Path("results") / profile.profile
    summary = write_result_set(profile, runs, folder, partial, data, keep)
    if figures:
        from lorun.results.figures import write_figures

        write_figures(profile, summary, runs=runs, data=data, folder=folder)
    typer.echo(f"wrote {folder}")


@app.command()
def show(folder: Annotated[Path, typer.Argument(help="Folder of a result set, e.g. results/quick.")]) -> None:
    """Print the summary of a result set and where its files lie."""
    try:
        text = (folder / "summary.md").read_text(encoding="utf-8")
    except OSError as error:
        raise LorunError(
            f"{folder / 'summary.md'}: no result set here ({error.strerror}); `lorun table` writes one"
        ) from None
    typer.echo(text)
    typer.echo("Files:")
    for path in sorted(folder.iterdir()):
        if not path.name.startswith("."):
            typer.echo(f"  {path}")


@app.command()
def licences(data: Data = Path("data")) -> None:
    """Print the licence ledger: every dataset, weights file and baseline (the committed one is LICENCES.md)."""
    from lorun.results.licences import ledger

    typer.echo(ledger(data), nl=False)


@app.command("list")
def list_experiments(config: Config, runs: Runs = Path("runs")) -> None:
    """List the experiments of a profile and how far they are."""
    profile = load_profile(config)
    for experiment in profile.experiments():
        typer.echo(f"{_progress(experiment, runs):14}  {experiment.name:40}  {runs / experiment.folder}")


def _progress(experiment: Experiment, runs: Path) -> str:
    from lorun.training.outcome import read_outcome

    outcome = read_outcome(runs / experiment.folder)
    if outcome is not None:
        return outcome.status
    return "started" if (runs / experiment.folder / "checkpoint.pt").exists() else "not started"


@config_app.command("check")
def check_config(config: Annotated[Path, typer.Argument(help="Profile to check.")]) -> None:
    """Check a profile and print its size."""
    profile = load_profile(config)
    count = sum(1 for _ in profile.experiments())
    typer.echo(f"{config}: profile {profile.profile!r}, {len(profile.tasks)} tasks, {count} experiments")


@config_app.command("schema")
def schema() -> None:
    """Print the JSON schema of profiles (the committed one is workflow/schemas/profile.schema.json)."""
    typer.echo(json.dumps(profile_schema(), indent=1))


def main() -> None:
    """Run the command line; an error a user can mend is one line on stderr and exit status 1."""
    try:
        app()
    except LorunError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        sys.exit(1)
