"""`lorun status`: committed results that the project of today would no longer give."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lorun.cli.options import Runs
from lorun.errors import LorunError


def status(
    results: Annotated[list[Path] | None, typer.Argument(help="Folders of result sets; default: all.")] = None,
    runs: Runs = Path("runs"),
    accept: Annotated[str | None, typer.Option(metavar="RUN", help="A run that was repeated, see below.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything that is known, as JSON.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a result is stale or unknown.")] = False,
) -> None:
    """Show which results no longer match code, configuration, data or packages, why, and what has to run again.

    Every run recorded which code it loaded; that is compared with the files of today. Start from the project's root.
    See docs/status.md for the limits.

    --accept SET/TASK/SETTING/METHOD/SEED records today's code for all seeds of a method, after this one was run again
    with equal scores.
    """
    from lorun.provenance import versions
    from lorun.results.store import read_result_set
    from lorun.status.accept import accept as accept_run
    from lorun.status.check import status_of
    from lorun.status.project import Project
    from lorun.status.report import as_json as to_json
    from lorun.status.report import count, render

    project = Project(Path())
    if accept is not None:
        typer.echo(accept_run(project, accept, runs))
        return
    folders = results or sorted(path.parent for path in Path("results").glob("*/rows.csv"))
    if not folders:
        raise LorunError("results: there is no result set (rows.csv); `lorun table` writes one")
    checked = [(held, status_of(project, held, runs)) for held in map(read_result_set, folders)]
    other = project.other_versions(versions()) if project.locked else ()
    notes = [f"installed: {', '.join(other)}"] if other else []
    typer.echo(json.dumps(to_json(checked, notes), indent=1) if as_json else render(checked, notes))
    states = [count(checks, what) for _, checks in checked for what in ("run", "account")]
    if strict and any(state["stale"] or state["unknown"] for state in states):
        raise typer.Exit(1)
