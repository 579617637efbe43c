"""`lorun doctor`."""

import typer


def doctor() -> None:
    """Show what of this machine and environment can be used: a line each, with the remedy where something is missing.

    Exit status 1 if something is missing without which nothing works (`missing`); a `note` is no failure. Start from
    the project's root.
    """
    from lorun.doctor import examine

    states = set()
    for check in examine():
        typer.echo(str(check))
        states.add(check.state)
    if "missing" in states:
        raise typer.Exit(1)
