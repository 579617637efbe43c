"""`lorun adapters`: the store of trained adapters."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from lorun.cli.options import Device, Images, Table

adapters_app = typer.Typer(help="Store of trained adapters and their frozen bases.", no_args_is_help=True)

Store = Annotated[Path, Option(help="Folder of the adapter store.")]
Name = Annotated[str, Argument(help="Set of adapters.")]


@adapters_app.command("add")
def add_adapters(
    name: Name,
    run: Annotated[Path, Option("--from", help="Folder of a completed run of a LoRun strategy.")],
    store: Store = Path("adapters"),
) -> None:
    """Copy the adapters, step sizes and operator of a trained run into the store; its base is stored once for all."""
    from lorun.adapter_store import AdapterStore, short

    added = AdapterStore(store).add(name, run)
    size = f"{added.bytes['adapters']:,} bytes of adapters"
    typer.echo(f"{name}: added to {store}, {size} on the base {short(added.base)}")


@adapters_app.command("list")
def list_adapters(store: Store = Path("adapters")) -> None:
    """List the sets; * marks the active one. Sets with the same base, stages and ranks can be swapped."""
    from lorun.adapter_store import AdapterStore, listing

    typer.echo(listing(AdapterStore(store)))


@adapters_app.command("activate")
def activate_adapters(
    name: Name,
    store: Store = Path("adapters"),
    time: Annotated[bool, Option("--time", help="Time a swap and a reload of the whole network.")] = False,
) -> None:
    """Make a set the active one, which `lorun adapters evaluate active` uses."""
    from lorun.adapter_store import AdapterStore, short

    adapters = AdapterStore(store)
    manifest = adapters.manifest(name)
    adapters.activate(name)
    typer.echo(f"{name}: active on the base {short(manifest.base)}")
    if time:
        held = manifest.bytes["adapters"] + manifest.bytes["step_sizes"]
        whole = held + manifest.bytes["base"] + manifest.bytes["operator"]
        swap, reload = adapters.time_swap(name)
        typer.echo(f"swap    {1e3 * swap:10.1f} ms {held:14,} bytes\nreload  {1e3 * reload:10.1f} ms {whole:14,} bytes")
        typer.echo("Medians of 5 on this machine.")


@adapters_app.command("evaluate")
def evaluate_adapters(
    name: Annotated[str, Argument(help="Set of adapters, or `active`.")],
    images: Images,
    store: Store = Path("adapters"),
    out: Table = None,
    device: Device = "auto",
) -> None:
    """Score a set of the store on a folder of images."""
    from lorun.adapter_store import AdapterStore
    from lorun.cli.runs import table_of, write_scores
    from lorun.devices import scoring_device
    from lorun.evaluation.reconstruct import score_folder

    adapters, chosen = AdapterStore(store), scoring_device(device)
    one = adapters.manifest(name)
    system = adapters.system(one.name)
    scored = score_folder(one.experiment, one.training, system, images, {}, chosen)
    write_scores(scored, out or table_of(images))
