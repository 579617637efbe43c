"""`lorun history`: scores over commits."""

import json
from pathlib import Path
from typing import Annotated

import typer


def history(
    results: Annotated[list[Path], typer.Argument(help="Folders of result sets, e.g. results/quick.")],
    task: Annotated[str | None, typer.Option(help="Only this task, e.g. cs.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Only this test set.")] = None,
    setting: Annotated[str | None, typer.Option(help="Only this setting, e.g. r25.")] = None,
    method: Annotated[str | None, typer.Option(help="Only this method, e.g. lorun.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Protocol; default: the first of each table.")] = None,
    metric: Annotated[
        str, typer.Option(help="Column of summary.csv: psnr, ssim, parameters_network, step_total, ...")
    ] = "psnr",
    plot: Annotated[Path | None, typer.Option(help="PNG file to draw it into.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how a score, or a count of parameters or bytes, changed over the commits of a result set.

    Result sets are read from git. Commits that did not change the value are left out. What is missing in older
    revisions is listed at the end.
    """
    from lorun.results.history import as_records, render, write_plot
    from lorun.results.history import history as history_of

    chosen = {"task": task, "dataset": dataset, "setting": setting, "method": method, "protocol": protocol}
    found = history_of(results, metric, chosen)
    typer.echo(json.dumps(as_records(found), indent=1) if as_json else render(found))
    if plot is not None:
        write_plot(found, plot)
        typer.echo(f"wrote {plot}", err=as_json)
