"""`lorun contract`: what every baseline owes, checked."""

from typing import Annotated

import typer

from lorun.errors import LorunError


def contract(
    names: Annotated[
        list[str] | None, typer.Argument(help="Baselines: names, or paths of folders; default: all that there are.")
    ] = None,
) -> None:
    """Check baselines against what the suite asks of them, and say what to implement.

    A name is a folder of baselines/, an entry point of the group lorun.baselines of an installed package, or a path
    with a slash, such as ../my_net or ./my_net.

    For every kind of operator that a baseline does not decline: shapes of any size, gradients to every parameter,
    determinism, saving, a training step in either precision, overfitting one patch, accounting; and its card, the
    reasons with which it unsupported, and its parameters against the published ones.

    Exit status 1 where something is not kept. One baseline takes seconds, all take minutes.
    """
    from lorun import plugins
    from lorun.contract import render, report

    references = names or [*plugins.names(), *plugins.installed_names()]
    for reference in references:
        plugins.find(reference)  # a mistyped name is told before minutes are spent on the others
    broken = []
    for reference in references:
        found = report(reference)
        typer.echo(render(found))
        if found.broken:
            broken.append(reference)
    if broken:
        raise LorunError(f"{len(broken)} of {len(references)} baselines do not keep the contract: {', '.join(broken)}")
