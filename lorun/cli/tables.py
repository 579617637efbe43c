"""`lorun table`, `lorun show` and `lorun licences`: write and print tables."""

from pathlib import Path
from typing import Annotated

import typer

from lorun.cli.data import Data
from lorun.cli.options import Config, Runs
from lorun.errors import LorunError


def table(
    config: Config,
    runs: Runs = Path("runs"),
    data: Data = Path("data"),
    out: Annotated[Path | None, typer.Option(help="Folder of the result set; default: results/PROFILE.")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="List missing runs with their status.")] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep what the result set holds of runs whose folders are not here.")
    ] = False,
    figures: Annotated[bool, typer.Option(help="Draw the figures as well.")] = True,
) -> None:
    """Write the tables and figures of a profile from its runs.

    Use --keep if some run folders are on other machines or gone, and --partial if some runs were never made.
    """
    from lorun.profiles import load_profile
    from lorun.results.result_set import write_result_set

    profile = load_profile(config)
    folder = out or Path("results") / profile.profile
    summary = write_result_set(profile, runs, folder, partial, data, keep)
    if figures:
        from lorun.results.figures import write_figures

        write_figures(profile, summary, runs=runs, data=data, folder=folder)
    typer.echo(f"wrote {folder}")


def show(folder: Annotated[Path, typer.Argument(help="Folder of a result set, e.g. results/quick.")]) -> None:
    """Print the summary of a result set and list its files."""
    summary = folder / "summary.md"
    try:
        text = summary.read_text(encoding="utf-8")
    except OSError as error:
        raise LorunError(f"{summary}: no result set here ({error.strerror}); `lorun table` writes one") from None
    files = [f"  {path}" for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    typer.echo("\n".join([text, "Files:", *files]))


def licences(data: Data = Path("data")) -> None:
    """Print the licences of all datasets, weights files and baselines (the committed list is LICENCES.md)."""
    from lorun.results.licences import ledger

    typer.echo(ledger(data), nl=False)
