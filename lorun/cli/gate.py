"""`lorun gate`: fail where results got worse."""

import math
import sys
from pathlib import Path
from typing import Annotated

import typer

from lorun.errors import LorunError

UNUSABLE = 2
"""Exit status if nothing could be compared."""

SHOWN = 30
"""Rows of the table on the terminal; all failures are shown in any case."""


def gate(
    reference: Annotated[
        str,
        typer.Option(
            help="Results known to be good: a folder (results/quick, or results for all sets), or a git revision (REV, "
            "or REV:results/quick)."
        ),
    ],
    candidate: Annotated[str, typer.Option(help="Results to be judged, named likewise.")],
    alpha: Annotated[
        float, typer.Option(min=1e-9, max=0.5, help="Probability that noise alone fails the scores of a comparison.")
    ] = 0.005,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            help="METRIC=VALUE; may be repeated: how far a score may fall where there is only one seed. "
            "Default: psnr=0.3 ssim=0.02 sam=2 residual=0.005."
        ),
    ] = None,
    parameters: Annotated[float, typer.Option(min=0, help="Percent that parameter counts may differ.")] = 0.0,
    bytes_: Annotated[float, typer.Option("--bytes", min=0, help="Percent that counted bytes may rise.")] = 0.0,
    flops: Annotated[float, typer.Option(min=0, help="Percent that FLOPs may rise.")] = 0.0,
    time: Annotated[
        float | None,
        typer.Option(min=0, help="Percent that a relative time may rise; without it, times are only reported."),
    ] = None,
    time_base: Annotated[str, typer.Option(help="Method that times are relative to, on each side.")] = "block_k",
    fresh_seeds: Annotated[
        bool,
        typer.Option("--fresh-seeds", help="The candidate used other seeds: match them in order, pair none of them."),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail by what cannot be compared, too.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Print every finding, also what passed.")] = False,
    junit: Annotated[Path | None, typer.Option(help="JUnit file to write, a test case per finding.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Markdown file to write, for a comment.")] = None,
    json: Annotated[Path | None, typer.Option(help="JSON file to write, with every number.")] = None,
) -> None:
    """Compare two result sets and fail where the candidate is worse. Needs no GPU, no data and no training.

    Fails if rows, runs or tables are missing; runs no longer complete; parameter counts differ; counted bytes or FLOPs
    rise; an adapter or another trained parameter did not move; scores of unchanged weights moved (a protocol changed
    under its name); scores of trained methods fell by more than training noise explains, by method or over a task.

    Only reported: what is new or better; relative times; what neither side records (see --strict).

    Exit status 0: passed. 1: failed. 2: nothing could be compared.
    """
    from rich.console import Console

    from lorun.files import write_text
    from lorun.gate import Limits, outputs
    from lorun.gate import gate as compare

    try:
        limits = Limits(
            alpha=alpha,
            tolerance=_tolerances(tolerance or []),
            parameters=parameters,
            bytes=bytes_,
            flops=flops,
            time=time,
            time_base=time_base,
            fresh_seeds=fresh_seeds,
        )
        report = compare(reference, candidate, limits, strict=strict)
        for path, render in ((junit, outputs.junit), (markdown, outputs.markdown), (json, outputs.as_json)):
            if path is not None:
                write_text(path, render(report))
    except (LorunError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(UNUSABLE) from None
    shown, more = (list(report.findings), 0) if everything else outputs.select(report, SHOWN)
    if shown:
        Console(width=None if sys.stdout.isatty() else 160).print(outputs.table(shown))
    if more:
        typer.echo(f"and {more} findings more (--all)")
    typer.echo(outputs.headline(report))
    raise typer.Exit(0 if report.passed else 1)


def _tolerances(options: list[str]) -> dict[str, float]:
    """The default tolerances, updated by METRIC=VALUE options."""
    from lorun.errors import UnknownName
    from lorun.evaluation.metrics import METRICS
    from lorun.gate.findings import TOLERANCE

    found = dict(TOLERANCE)
    for option in options:
        name, _, text = option.partition("=")
        if name not in METRICS:
            raise UnknownName("metric", name, METRICS)
        try:
            found[name] = float(text)
        except ValueError:
            found[name] = math.nan
        if not (math.isfinite(found[name]) and found[name] >= 0):
            raise LorunError(f"--tolerance {option!r}: give METRIC=VALUE with a value of at least 0, e.g. psnr=0.3")
    return found
