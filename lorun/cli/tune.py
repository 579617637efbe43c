"""`lorun tune`: choose learning rates."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from lorun.cli.options import Config, Data, Device, Runs

if TYPE_CHECKING:
    import torch

    from lorun.profiles import Profile


def tune(
    config: Config,
    task: Annotated[str | None, Option(help="Only this task, e.g. cs.")] = None,
    method: Annotated[str | None, Option(help="Only this method, also if it is tuned already.")] = None,
    runs: Runs = Path("runs"),
    data: Data = Path("data"),
    device: Device = "auto",
) -> None:
    """Choose the learning rate of each trained method by rule, judged on validation images.

    A short training for each value of a grid, then whole trainings with the best value and the next lower one.

    The grid and the length of the trainings are `training.tuning` of the profile. All scores and the choice are written
    to tuned/PROFILE.csv beside the profile: commit it, and the tuning costs nothing from then on. `make reproduce` does
    this first, on all cores, for methods that are not tuned or whose configuration has changed. A method whose adapters
    alone are trained is tuned in their learning rate, after its base. It can be interrupted at any time and started
    again.

    lorun tune --config config/quick.yaml --task cs --method lorun
    """
    from lorun.devices import pick_device
    from lorun.errors import one_of
    from lorun.profiles import load_profile
    from lorun.profiles.references import check_references
    from lorun.profiles.trials import trials_path

    profile = load_profile(config)
    if task is not None:
        one_of("task", task, profile.tasks)
    if method is not None:
        one_of("tuned method", method, sorted({name for one, name in profile.to_tune() if task in (None, one)}))
    places = profile.untuned() if method is None else profile.to_tune()
    chosen = [place for place in places if task in (None, place[0]) and method in (None, place[1])]
    if not chosen:
        typer.echo(f"Nothing to do: {trials_path(config, profile.profile)} has every choice.")
    for one_task in dict(chosen):
        check_references(profile, data, one_task)
    tune_methods(profile, config, chosen, runs, data, pick_device(device))


def tune_methods(
    profile: "Profile",
    path: Path,
    places: Sequence[tuple[str, str]],
    runs: Path,
    data: Path,
    device: "torch.device",
) -> None:
    """Tune methods, each named with its task; print the scores, and record the choices beside the profile at `path`."""
    from tabulate import tabulate

    from lorun.profiles.trials import edge, trials_path
    from lorun.tuning import record
    from lorun.tuning import tune as tune_one

    for task, method in places:
        trials = tune_one(profile, task, method, runs=runs, data=data, device=device)
        profile.use_trials(record(trials_path(path, profile.profile), trials))
        lines = []
        for trial in trials:
            score = trial.status if trial.validation_psnr is None else f"{trial.validation_psnr:.2f}"
            lines.append([f"{trial.value:g}", trial.steps, score, "chosen" * trial.chosen])
        typer.echo(f"\n{task}/{trials[0].setting}/{method}")
        headers = [trials[0].parameter, "steps", "validation PSNR (dB)", ""]
        typer.echo(tabulate(lines, headers=headers, disable_numparse=True))
        [best] = [trial.value for trial in trials if trial.chosen]
        if edge(best, [trial.value for trial in trials]) != "no":
            typer.echo("The best value is at the edge of the grid: give all methods a wider one (`training.tuning`).")
