"""`lorun data`: list, fetch, build, add and verify datasets."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from lorun.cli.options import Data
from lorun.errors import LorunError

data_app = typer.Typer(help="Datasets.", no_args_is_help=True)


@data_app.command("list")
def list_data(data: Data = Path("data")) -> None:
    """List the known datasets: state, role, tasks, content, licence, origin."""
    from tabulate import tabulate

    from lorun.data.checksums import dataset_state, known_datasets
    from lorun.data.registry import read_registry

    headers = ["name", "state", "role", "tasks", "what", "licence", "may be passed on", "origin"]
    rows = []
    for name in known_datasets(data):
        about, entry = ["-"] * 6, read_registry(data).get(name)
        if entry is not None:
            about = [entry.role + ", simulated" * entry.simulated, " ".join(entry.tasks), entry.what]
            about += [entry.licence, entry.redistribution, " ".join(entry.sources)]
        rows.append([name, dataset_state(data, name), *about])
    typer.echo(tabulate(rows, headers, tablefmt="plain", disable_numparse=True))


@data_app.command("fetch")
def fetch_data(
    names: Annotated[list[str] | None, Argument(help="Datasets.")] = None,
    everything: Annotated[bool, Option("--all", help="All that can be fetched.")] = False,
    marker: Annotated[Path | None, Option(help="File to write the dataset's md5 to (for one dataset).")] = None,
) -> None:
    """Get datasets into data/ and verify them: from the DVC remotes, else from their origin.

    Files that are there already are kept. Add a DVC remote of your own with `dvc remote add --local NAME ADDRESS`.
    """
    from lorun.data.fetch import fetch, mark
    from lorun.data.registry import read_registry

    if everything == bool(names):
        raise LorunError("name the datasets to fetch (`lorun data list` shows them), or use --all")
    chosen = names or [name for name, entry in read_registry().items() if entry.manual is None]
    if marker is not None and len(chosen) != 1:
        raise LorunError("--marker needs exactly one dataset")
    for name in chosen:
        fetch(name)
        if marker is not None:
            mark(name, marker)


@data_app.command("make")
def make_data(name: Annotated[str, Argument(help="Dataset.")], data: Data = Path("data")) -> None:
    """Build or download a dataset from its origin, without DVC. The stages of dvc.yaml run this."""
    from lorun.data.fetch import make

    make(data, name)
    typer.echo(f"{name}: made from its origin, verified")


@data_app.command("add")
def add_data(
    name: Annotated[str, Argument(help="Dataset that you obtained, e.g. general100.")],
    source: Annotated[Path, Option("--from", help="Folder with its files.")],
    data: Data = Path("data"),
) -> None:
    """Check the files of a dataset that you obtained, copy them to data/ and record their checksums."""
    from lorun.data.manual import add

    typer.echo(f"{name}: added, {add(data, name, source)}")


@data_app.command("verify")
def verify_data(
    names: Annotated[list[str] | None, Argument(help="Datasets; default: all that are present.")] = None,
    data: Data = Path("data"),
) -> None:
    """Check every file of all or some datasets against its checksum."""
    from lorun.data.checksums import known_datasets, manifest_path, verify_dataset

    chosen = names or [name for name in known_datasets(data) if (data / name).is_dir()]
    for name in chosen:
        manifest_path(data, name)  # raises where the name is unknown
    failures = 0
    for name in chosen:
        try:
            typer.echo(f"{name}: intact, {verify_dataset(data, name)}")
        except LorunError as error:
            if len(chosen) == 1:
                raise
            typer.echo(f"{name}: {error}", err=True)
            failures += 1
    if failures:
        raise LorunError(f"{failures} of {len(chosen)} datasets are not intact")
