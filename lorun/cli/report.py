"""`lorun report`: a result set as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a result set, e.g. results/quick.")],
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="Its profile; default: config/NAME.yaml, with the name of the folder."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of all runs, with the kept reconstructions.")] = Path("runs"),
    data: Annotated[Path, typer.Option(help="Folder of all datasets, with the true images.")] = Path("data"),
    out: Annotated[Path | None, typer.Option(help="Page to write; default: report.html in FOLDER.")] = None,
) -> None:
    """Write a result set as one HTML page that needs no network, no server and no other file.

    It has tables to sort and filter, plots, crops of every method with error maps, training curves and licences. Click
    a score to see its code, data, weights, seed and machine, and the commands that reproduce it. Without the runs, the
    page shows the figures of the result set instead of the crops.
    """
    from lorun.profiles import load_profile
    from lorun.report import write_report

    config = config or Path("config") / f"{folder.resolve().name}.yaml"
    out = out or folder / "report.html"
    write_report(load_profile(config), config, folder, runs=runs, data=data, out=out)
    typer.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
