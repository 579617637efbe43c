"""`lorun evaluate` and `lorun score`: score a trained run, or a baseline with your own files."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorun.cli.data import Data
from lorun.cli.options import Config, Device, Images, Method, Runs, Seed, Setting, Table, Task, one_of

if TYPE_CHECKING:
    from lorun.evaluation.reconstruct import Evaluation


def evaluate(
    config: Config,
    task: Task,
    setting: Setting,
    method: Method,
    seed: Seed = 0,
    runs: Runs = Path("runs"),
    data: Data = Path("data"),
    device: Device = "auto",
    images: Annotated[Path | None, typer.Option(help="Score this folder of images instead of the test sets.")] = None,
    out: Annotated[Path | None, typer.Option(help="Table to write; default: in the run, or FOLDER.csv.")] = None,
) -> None:
    """Score a trained run: one row per image, degradation, protocol and metric.

    See `lorun score` for a baseline with your own files, `lorun adapters evaluate` for the adapter store.
    """
    from lorun.devices import pick_device
    from lorun.evaluation.reconstruct import evaluate as evaluate_run
    from lorun.evaluation.reconstruct import evaluate_folder
    from lorun.profiles import load_profile
    from lorun.results.paths import EVALUATION

    experiment = load_profile(config, task).experiment(task, setting, method, seed)
    if images is None:
        scored = evaluate_run(experiment, runs=runs, data=data, device=pick_device(device))
        write_scores(scored, out or runs / experiment.folder / EVALUATION)
    else:
        scored = evaluate_folder(experiment, images, runs=runs, device=pick_device(device))
        write_scores(scored, out or table_of(images))


def score(
    method: Annotated[str, typer.Option(help="Baseline: its name, or the path of its folder.")],
    images: Images,
    weights: Annotated[Path | None, typer.Option(help="Released weights (.pkl, .pth, .safetensors).")] = None,
    matrix: Annotated[Path | None, typer.Option(help="Sampling matrix, .npy or .mat (`phi`), m x block^2.")] = None,
    initial: Annotated[str | None, typer.Option(help="File of `Qinit`, or adjoint, or pseudo_inverse.")] = None,
    padding: Annotated[str, typer.Option(help="To whole blocks: always (the ISTA-Net family) or needed.")] = "always",
    protocol: Annotated[list[str] | None, typer.Option(help="Protocol; may be repeated. Default: cs_float_y.")] = None,
    out: Table = None,
    device: Device = "auto",
) -> None:
    """Score a baseline of compressed sensing on your own images, weights and sampling matrix, without a profile.

    lorun score --method ista_net --weights net_params_200.pkl --matrix phi_0_25_1089.mat
    --initial Initialization_Matrix_25.mat --images Set11
    """
    from lorun.devices import pick_device
    from lorun.evaluation.files import score_files

    scored = score_files(
        method,
        images,
        weights=weights,
        matrix=matrix,
        initial=initial,
        padding=one_of("padding", padding, ["always", "needed"]),
        protocols=protocol or ["cs_float_y"],
        device=pick_device(device),
    )
    write_scores(scored, out or table_of(images))


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
