"""`lorun doctor`."""

import typer


def doctor() -> None:
    """Show what of this machine and environment can be used: a line each, with the remedy where something is missing.

    Exit status 1 if something is missing without which nothing works (`missing`); a `note` is no failure. Start from
    the project's root.
    """
    from lorun.doctor import examine

    checks = []
    for check in examine():
        typer.echo(str(check))
        checks.append(check)
    if any(check.state == "missing" for check in checks):
        raise typer.Exit(1)
