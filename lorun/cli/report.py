"""`lorun report`: a result set as one page to look at."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a result set, e.g. results/quick.")],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Its profile; default: config/NAME.yaml, NAME the folder's.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of all runs; the kept reconstructions lie there.")] = Path("runs"),
    data: Annotated[Path, typer.Option(help="Folder of all datasets; the truths of the crops.")] = Path("data"),
    out: Annotated[Path | None, typer.Option(help="Page to write; default: report.html in FOLDER.")] = None,
) -> None:
    """Write a result set as one HTML page that needs nothing else: no network, no server, no other file.

    Tables to sort and filter, plots, the same crops of every method with error maps, training curves, licences; a click
    on a score shows its code, data, weights, seed and machine, and the commands that give it again. Where the runs are
    not there any more, the page shows the figures of the result set instead of the crops.
    """
    from lorun.profiles import load_profile
    from lorun.report import write_report

    config = config or Path("config") / f"{folder.resolve().name}.yaml"
    out = out or folder / "report.html"
    write_report(load_profile(config), config, folder, runs=runs, data=data, out=out)
    typer.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
