"""The command line. Everything that the workflow does is a command; each one is in the module of its subject."""

import sys
from typing import Annotated

import typer
from typer import Option

from lorun import __version__, renamed
from lorun.cli.adapters import adapters_app
from lorun.cli.archive import appendix, export, verify
from lorun.cli.baselines import contract, new_app
from lorun.cli.bench import bench, latency, scaling
from lorun.cli.compare import compare
from lorun.cli.data import data_app
from lorun.cli.doctor import doctor
from lorun.cli.gate import gate
from lorun.cli.models import models_app
from lorun.cli.restore import restore
from lorun.cli.results import history, licences, report, show, status, table, verdict
from lorun.cli.runs import account, config_app, evaluate, list_runs, score, train
from lorun.cli.tune import tune
from lorun.errors import LorunError

app = typer.Typer(
    help="LoRA-adapted deep unfolding networks for image restoration: train, evaluate, account, tabulate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    *(compare, train, tune, evaluate, score, restore, account, table, show, report, verdict, history, gate, status),
    *(export, verify, appendix, contract, bench, latency, scaling, licences, doctor),
):
    app.command()(_command)
app.command("list")(list_runs)
for _name, _group in {
    "data": data_app,
    "models": models_app,
    "adapters": adapters_app,
    "config": config_app,
    "new": new_app,
}.items():
    app.add_typer(_group, name=_name)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lorun {__version__}")
        raise typer.Exit


@app.callback()
def _root(version: Annotated[bool, Option("--version", callback=_print_version, is_eager=True)] = False) -> None:
    pass


def main() -> None:
    """Run the command line. An error that the user can fix is one line on stderr and exit status 1."""
    try:
        app(args=renamed.command(sys.argv[1:]))
    except LorunError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        sys.exit(1)
