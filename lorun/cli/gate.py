"""`lorun gate`: fail where results got worse."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lorun.errors import LorunError

UNUSABLE = 2
"""Exit status where nothing could be compared."""


def gate(
    reference: Annotated[
        str,
        typer.Option(
            help="What is known to be good: a folder (results/quick, or results with all sets in it), a rows.csv, or a "
            "git revision, REV or REV:results/quick."
        ),
    ],
    candidate: Annotated[str, typer.Option(help="What is to be judged, likewise.")],
    alpha: Annotated[
        float, typer.Option(min=1e-9, max=0.5, help="Probability that noise alone fails the scores of a comparison.")
    ] = 0.005,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            help="METRIC=VALUE, again for several: by how much a score may fall where one seed gives no spread. "
            "Default: psnr=0.3 ssim=0.02 sam=2 residual=0.005."
        ),
    ] = None,
    equal: Annotated[
        float,
        typer.Option(
            min=0,
            help="By how much scores may move where no weights changed, in tenths of the last digit of the tables: "
            "1 is 0.001 dB of PSNR and 0.00001 of SSIM.",
        ),
    ] = 1.0,
    parameters: Annotated[float, typer.Option(min=0, help="Percent that parameters may differ by.")] = 0.0,
    bytes_: Annotated[float, typer.Option("--bytes", min=0, help="Percent that counted bytes may rise by.")] = 0.0,
    flops: Annotated[float, typer.Option(min=0, help="Percent that FLOPs may rise by.")] = 0.0,
    time: Annotated[
        float | None,
        typer.Option(min=0, help="Percent that a ratio of times may rise by; without it, times are only told."),
    ] = None,
    time_base: Annotated[str, typer.Option(help="Method that times are divided by, within each side.")] = "block_k",
    fresh_seeds: Annotated[
        bool,
        typer.Option(
            "--fresh-seeds", help="The candidate has other seeds: match them by their order, and pair none of them."
        ),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail by what cannot be compared, too.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Print what passed, and times, as well.")] = False,
    junit: Annotated[Path | None, typer.Option(help="JUnit file to write, a test case per finding.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Markdown file to write, for a comment.")] = None,
    json: Annotated[Path | None, typer.Option(help="JSON file to write, with every number.")] = None,
) -> None:
    """Compare two result sets and fail where the candidate is worse. Needs no GPU, no data and no training.

    Fails by: rows, runs or tables that are missing; runs that no longer complete; parameters that differ; more counted
    bytes or FLOPs; an adapter or another trained parameter that did not move; scores that moved though no weights did
    (a protocol changed under its name); scores of trained methods that fell by more than the noise of trainings
    explains, a method at a time or all of a task together.

    Only told: what is new or better; times, as ratios within one run; what neither side knows (--strict).

    Exit status 0: passed. 1: failed. 2: nothing could be compared.
    """
    from rich.console import Console

    from lorun.files import write_text
    from lorun.gate import Limits, outputs
    from lorun.gate import gate as compare
    from lorun.gate.limits import parse_tolerances

    try:
        limits = Limits(
            alpha=alpha,
            equal=equal,
            tolerance=parse_tolerances(tolerance or []),
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
    shown, more = outputs.told(report, everything, limit=30)
    if shown:
        Console(width=None if sys.stdout.isatty() else 160).print(outputs.table(shown))
    if more:
        typer.echo(f"and {more} that passed or are only told (--all)")
    typer.echo(outputs.headline(report))
    raise typer.Exit(0 if report.passed else 1)
