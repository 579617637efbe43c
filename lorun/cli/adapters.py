"""`lorun adapters`: the library of trained adapters."""

from pathlib import Path
from typing import Annotated

import typer

adapters_app = typer.Typer(help="Trained adapters, and the bases that they are swapped on.", no_args_is_help=True)

Library = Annotated[Path, typer.Option(help="Folder of the library of adapters.")]
Name = Annotated[str, typer.Argument(help="Set of adapters.")]


@adapters_app.command("add")
def add_adapters(
    name: Name,
    run: Annotated[Path, typer.Option("--from", help="Folder of a trained run of lorun or its kin.")],
    library: Library = Path("adapters"),
) -> None:
    """Take the adapters of a trained run into the library: its step sizes and operator too, and its base once."""
    from lorun.library import AdapterLibrary, short

    added = AdapterLibrary(library).add(name, run)
    typer.echo(
        f"{name}: added to {library}, {added.bytes.adapters:,} bytes of adapters on the base {short(added.base)}"
    )


@adapters_app.command("list")
def list_adapters(library: Library = Path("adapters")) -> None:
    """List the sets: those under one heading fit together on one network; * is the active one."""
    from lorun.library import AdapterLibrary
    from lorun.library.listing import listing

    typer.echo(listing(AdapterLibrary(library)))


@adapters_app.command("activate")
def activate_adapters(
    name: Name,
    library: Library = Path("adapters"),
    repeats: Annotated[int, typer.Option(min=1, help="Swaps and reloads that are timed.")] = 5,
) -> None:
    """Make a set the active one: swap it in for the one that was, on a loaded base, and say what that took.

    `lorun evaluate --adapters active` then uses it.
    """
    from lorun.library import AdapterLibrary, short

    found = AdapterLibrary(library)
    done = found.activate(name, repeats)
    of = found.manifest(name)
    instead = {None: "the first", of.name: "as before"}.get(done.before, f"instead of {done.before}")
    held = of.bytes.adapters + of.bytes.step_sizes
    typer.echo(
        f"{name}: active on the base {short(of.base)}, {instead}\n"
        f"{'':8}{'ms':>10}{'bytes read':>16}{'bytes held':>16}\n"
        f"{'swap':8}{1e3 * done.swap_seconds:10.1f}{done.swap_read:16,}{held:16,}\n"
        f"{'reload':8}{1e3 * done.reload_seconds:10.1f}{done.reload_read:16,}{held + of.bytes.base:16,}\n"
        f"Medians of {done.repeats} on this machine; the operator ({of.bytes.operator:,} bytes) comes beside either."
    )
