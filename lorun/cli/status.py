"""`lorun status`: which committed rows the project of today would no longer give."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lorun.errors import LorunError


def status(
    results: Annotated[
        list[Path] | None, typer.Argument(help="Folders of result sets; default: all of results/ that have rows.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of all runs: whose weights are there can be scored again.")] = Path(
        "runs"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print all that is known, for machines.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 where rows or accounts are stale or unknown.")
    ] = False,
) -> None:
    """Tell which rows of result sets no longer match code, configuration, data, weights or packages, and why.

    For every commit that the rows name, the code that a row may have run is read from git and compared with that of the
    working tree, without comments, docstrings and annotations. Training, scores and accounts are judged by themselves.
    Rows of a commit that this clone lacks, or of a tree with changes, are unknown. See docs/status.md for the limits.

    What would have to run again is estimated from timing.csv and accounting.csv. Start from the project's root.
    """
    from lorun.provenance import PACKAGES, versions
    from lorun.status.judge import installed_otherwise
    from lorun.status.project import Project
    from lorun.status.report import as_json as to_json
    from lorun.status.report import render, status_of

    project = Project(Path("."))
    folders = results or sorted(path.parent for path in Path("results").glob("*/rows.csv"))
    if not folders:
        raise LorunError("results: no result set with a rows.csv there; `lorun table` writes one")
    sets = [status_of(project, folder, runs) for folder in folders]
    installed = dict(one.split("=", 1) for one in versions().split())
    installed = {name: version.partition("+")[0] for name, version in installed.items()}
    other = installed_otherwise(project, PACKAGES, installed)
    notes = [f"installed, but not as locked: {', '.join(other)}"] if other else []
    if project.shallow:
        notes.append("this clone is shallow: `git fetch --unshallow` brings the commits of older rows")
    typer.echo(json.dumps(to_json(sets, notes), indent=1) if as_json else render(sets, notes))
    counts = [one.count(what) for one in sets for what in ("rows", "account")]
    if strict and any(count["stale"] or count["unknown"] for count in counts):
        raise typer.Exit(1)
