"""`lorun gate`: fail where results got worse."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from lorun.errors import LorunError

UNUSABLE = 2
"""Exit status if nothing could be compared."""

SHOWN = 30
"""Rows of the table on the terminal; all failures are shown in any case."""


def gate(
    reference: Annotated[str, Option(help="Good results: a folder, or a git revision (REV, or REV:results/quick).")],
    candidate: Annotated[str, Option(help="Results to be judged, named likewise.")],
    alpha: Annotated[float, Option(min=1e-9, max=0.5, help="Probability that noise alone fails the scores.")] = 0.005,
    parameters: Annotated[float, Option(min=0, help="Percent that parameter counts may differ.")] = 0.0,
    bytes_: Annotated[float, Option("--bytes", min=0, help="Percent that counted bytes may rise.")] = 0.0,
    flops: Annotated[float, Option(min=0, help="Percent that FLOPs may rise.")] = 0.0,
    time: Annotated[
        float | None, Option(min=0, help="Percent that a time relative to Block-K may rise; default: any.")
    ] = None,
    strict: Annotated[bool, Option("--strict", help="Also fail by what could not be compared.")] = False,
    everything: Annotated[bool, Option("--all", help="Print every finding, also what passed.")] = False,
    junit: Annotated[Path | None, Option(help="JUnit file to write, a test case per finding.")] = None,
    markdown: Annotated[Path | None, Option(help="Markdown file to write, for a comment.")] = None,
    json: Annotated[Path | None, Option(help="JSON file to write, with every number.")] = None,
) -> None:
    """Compare two result sets and fail where the candidate is worse. Needs no GPU, no data and no training.

    docs/gate.md lists what is checked. Exit status 0: passed. 1: failed. 2: nothing could be compared.
    """
    from rich.console import Console

    from lorun.files import write_text
    from lorun.gate import Limits, Report, compare, outputs
    from lorun.results.store import read_result_sets

    try:
        limits = Limits(alpha, parameters, bytes_, flops, time)
        before, after = read_result_sets(reference), read_result_sets(candidate)
        if all(results.rows.empty for results in before):
            raise LorunError(f"{reference}: no scores to compare with (rows.csv has no lines)")
        findings = compare(before, after, limits)
        report = Report(reference, candidate, findings, limits, strict)
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
    raise typer.Exit(1 if report.failures else 0)
