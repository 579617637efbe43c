"""`lorun new`: folders to start from."""

from pathlib import Path
from typing import Annotated

import typer

new_app = typer.Typer(help="Write a folder to start from.", no_args_is_help=True)


@new_app.callback()
def _new() -> None:
    pass


@new_app.command("baseline")
def new_baseline(
    name: Annotated[str, typer.Argument(help="Its name in profiles and tables: letters, digits, underscores.")],
    into: Annotated[
        Path | None, typer.Option(help="Folder in which to write NAME/; default: baselines/ of the suite.")
    ] = None,
) -> None:
    """Write a baseline: a small network that passes `lorun contract`, with marks where to change it.

    NAME/baseline.py holds the network, NAME/card.yaml describes it. With --into, the folder can be anywhere; profiles
    then use its path.
    """
    from lorun.methods import PRESETS
    from lorun.plugins.scaffold import write_baseline

    reference, folder = write_baseline(name, into, reserved=PRESETS)
    typer.echo(f"wrote {folder}: change what is marked CHANGE in baseline.py and card.yaml, then")
    typer.echo(f"  lorun contract {reference}")
    typer.echo(f"and name it in a profile, under `baselines: [{reference}]`.")
    if into is None:
        typer.echo("LICENCES.md lists it after `make licences`.")
