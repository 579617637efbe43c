"""`lorun config` and `lorun list`: check a profile, and see how far its runs are."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lorun.cli.options import Config, Runs

config_app = typer.Typer(help="Profiles.", no_args_is_help=True)


@config_app.command("check")
def check_config(config: Annotated[Path, typer.Argument(help="Profile to check.")]) -> None:
    """Check a profile and print its size."""
    from lorun.profiles import load_profile

    profile = load_profile(config)
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
    from lorun.training.outcome import read_outcome

    for experiment in load_profile(config).experiments():
        folder = runs / experiment.folder
        outcome = read_outcome(folder)
        started = "started" if (folder / "checkpoint.pt").exists() else "not started"
        typer.echo(f"{outcome.status if outcome else started:14}  {experiment.name:40}  {folder}")
