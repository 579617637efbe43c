"""`lorun compare`: methods of one's own beside the committed rows."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from lorun.cli.options import Data, Device, Runs
from lorun.errors import LorunError, one_of

if TYPE_CHECKING:
    import torch

    from lorun.methods import Experiment
    from lorun.profiles import Profile, TaskConfig
    from lorun.results.store import ResultSet


def compare(
    methods: Annotated[list[str], Argument(help="Folder of a baseline (../nets/my_net), or name of a method.")],
    profile: Annotated[str, Option(help="Profile of config/ that gives data, sizes and budget.")] = "quick",
    task: Annotated[str | None, Option(help="Task; default: all that the method's card allows.")] = None,
    setting: Annotated[str | None, Option(help="Setting of the task; default: all.")] = None,
    against: Annotated[str, Option(help="Method that the verdict is against.")] = "block_k",
    dataset: Annotated[list[str] | None, Option(help="Test set instead of the profile's; may be repeated.")] = None,
    ratio: Annotated[float | None, Option(min=0, max=100, help="Sampling ratio of compressed sensing, %.")] = None,
    out: Annotated[Path | None, Option(help="Folder of tables; default: runs/compare/PROFILE-METHOD.")] = None,
    runs: Runs = Path("runs"),
    data: Data = Path("data"),
    device: Device = "auto",
) -> None:
    """Run methods as the methods of a profile, and show their rows beside the committed ones, with a verdict.

    Tunes (if the profile does), trains, scores and counts each method with all seeds of the profile, and compares its
    PSNR with that of Block-K, paired by image and seed. No file of config/ or results/ is touched. Stopped at any time,
    it resumes.

    Committed rows count where their configuration is the same. Where that of --against is not, as with another dataset
    or ratio, it is run as well; name further methods to run those too.

    lorun compare ../nets/my_net

    lorun compare ../nets/my_net lorun --task cs --dataset set11 --ratio 10
    """
    from lorun.cli.tune import tune_methods
    from lorun.data.checksums import verify_dataset
    from lorun.data.fetch import fetch
    from lorun.devices import pick_device
    from lorun.profiles import load_profile
    from lorun.profiles.derived import derive_profile, name_of
    from lorun.results.markdown import render
    from lorun.results.paths import with_bases
    from lorun.results.result_set import make_result_set
    from lorun.results.rivals import committed_runs, tables
    from lorun.results.store import save_result_set

    used = pick_device(device)
    config = Path("config") / f"{profile}.yaml"
    original = load_profile(config, task)
    names = [name_of(method, {name for one in original.tasks.values() for name in one.variants}) for method in methods]
    changes: dict[str, Any] = {"data": {"test": dataset}} if dataset else {}
    tasks = _allowed(original, methods, names) if task is None else [one_of("task", task, original.tasks)]
    if ratio is not None:
        given, tasks = tasks, [name for name in tasks if _has_ratio(original.tasks[name])]
        if not tasks:
            raise LorunError(f"--ratio {ratio:g}: the task {' or '.join(given)} has no sampling ratio")
        setting = f"r{ratio:g}"
        changes["settings"] = {setting: {"ratio": ratio}}
    folder = out or runs / "compare" / f"{profile}-{'-'.join(names)}"[:80]
    path, derived = derive_profile(config, folder, methods, tasks=tasks, only=task, changes=changes)
    for name in tasks:
        one_of(f"method of the task {name} to compare with", against, derived.tasks[name].methods)
    if setting is not None:
        one_of("setting", setting, dict.fromkeys(one for name in tasks for one in derived.tasks[name].settings))
    chosen = [one for one in derived.experiments() if one.task in tasks and setting in (None, one.setting)]
    committed = _committed(original.profile)
    missing = set()
    if against not in names:
        missing = {(one.task, one.setting) for one in chosen if one.method in names}
        missing -= {(one.task, one.setting) for one in committed_runs(committed, chosen) if one.method == against}
    if missing:
        where = ", ".join("/".join(place) for place in sorted(missing))
        typer.echo(f"{where}: no committed row of {against} is of this configuration; it is run as well.", err=True)
    run_too = {(*place, against) for place in missing}
    wanted = [one for one in chosen if one.method in names or (one.task, one.setting, one.method) in run_too]
    for name in sorted({name for one in wanted for name in one.datasets}):
        fetch(name) if data == Path("data") else verify_dataset(data, name)
    needed = {(one.task, one.method) for experiment in wanted for one in with_bases(experiment)}
    tune_methods(derived, path, [place for place in derived.untuned() if place in needed], runs, data, used)
    wanted = [derived.experiment(**one.labels) for one in wanted]  # with the learning rates that were chosen by now

    def scores(experiment: "Experiment") -> Path | None:
        """Not in the folder of the run, which has the scores for the profile's own test sets."""
        place = folder / "scores" / experiment.folder.parent / f"seed{experiment.seed}-{experiment.config_hash}.csv"
        return place if experiment in wanted else None

    for one in wanted:
        _run(one, scores(one) or folder, runs, data, used)
    results = make_result_set(derived, runs, data, partial=True, present=committed, scores=scores)
    save_result_set(folder, results, {"summary.md": render(derived, results)})
    made = {(one.task, one.setting, one.method) for one in wanted}
    for title, table, verdicts in tables(results, names, made, against):
        typer.echo("\n".join(["", title, "", table.markdown(), *verdicts]))
    typer.echo(f"\nTables and profile: {folder}")


def _allowed(profile: "Profile", methods: Sequence[str], names: Sequence[str]) -> list[str]:
    """The tasks that the cards of all methods allow; strategies run in every task that trains."""
    from lorun import plugins
    from lorun.methods import STRATEGIES

    def allowed(task: str, method: str, name: str) -> bool:
        config = profile.tasks[task]
        if name in STRATEGIES or name in config.variants:
            return config.training is not None
        return {config.physics_of(setting).task for setting in config.settings} <= {*plugins.card(method).tasks}

    pairs = list(zip(methods, names, strict=True))
    found = [task for task in profile.tasks if all(allowed(task, *pair) for pair in pairs)]
    if not found:
        raise LorunError(
            f"no task of the profile {profile.profile} ({', '.join(profile.tasks)}) is one that the cards of all of "
            f"{', '.join(names)} name; --task chooses one"
        )
    return found


def _has_ratio(task: "TaskConfig") -> bool:
    return all(hasattr(task.physics_of(setting), "ratio") for setting in task.settings)


def _committed(name: str) -> "ResultSet | None":
    """The committed result set of a profile; without git, the one in results/; None if there is none."""
    from lorun.results.store import read_result_set

    for source in (f"HEAD:results/{name}", f"results/{name}"):
        try:
            return read_result_set(source)
        except LorunError as error:
            problem = error
    typer.echo(f"No committed rows: {problem}", err=True)
    return None


def _run(experiment: "Experiment", scores: Path, runs: Path, data: Path, device: "torch.device") -> None:
    """Train, score and count one run, as far as that is not done."""
    from lorun.accounting.account import account
    from lorun.cli.runs import write_scores
    from lorun.devices import scoring_device
    from lorun.evaluation.reconstruct import evaluate
    from lorun.files import write_text
    from lorun.results.paths import account_path, with_bases
    from lorun.training import train

    for one in with_bases(experiment):
        outcome = train(one, runs=runs, data=data, device=device)
    if outcome.status != "completed":
        typer.echo(f"{experiment.name}: {outcome.status}: {outcome.message}", err=True)
    if not scores.exists():
        write_scores(evaluate(experiment, runs=runs, data=data, device=scoring_device(device.type)), scores)
    counts = account_path(runs, experiment)
    if not counts.exists():
        write_text(counts, json.dumps(account(experiment, device), indent=1) + "\n")
