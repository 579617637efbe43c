"""`lorun bench`: time and bytes as ratios, against the targets."""

import os
from pathlib import Path
from typing import Annotated

import typer

from lorun.cli.data import Data
from lorun.errors import UnknownName

KINDS = ("steps", "loop", "backward", "startup", "precision")


def bench(
    kinds: Annotated[
        list[str] | None, typer.Argument(help=f"{', '.join(KINDS)}; default: all but precision, which needs a run.")
    ] = None,
    config: Annotated[
        list[Path] | None,
        typer.Option("--config", "-c", help="Profile whose sizes are measured, again for several; desk and paper."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=2, help="Rounds; a step of the sizes of `paper` takes seconds.")] = 15,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of each process on a CPU; default: one per core.")
    ] = None,
    device: Annotated[str, typer.Option(help="Of steps: auto (the GPU where there is one), cpu or cuda.")] = "auto",
    runs: Annotated[Path, typer.Option(help="Folder of all runs, for precision.")] = Path("runs"),
    data: Data = Path("data"),
    out: Annotated[Path, typer.Option(help="Folder of the tables.")] = Path("results/bench"),
) -> None:
    """Measure, write tables, and print the targets with pass or miss. A miss is no error.

    steps: training steps and reconstructions of LoRun, plain peft, Block-K and deepinv; seconds, live bytes.
    loop: the choices of the training loop on a CPU, each against its alternative.
    backward: the two ways back through an adapted layer, over widths and ranks.
    startup: from the start of `lorun train` to its first step.
    precision: the base of a trained LoRun in fewer bits.

    Times are medians of ratios within rounds, with quartiles; leave the machine alone meanwhile.
    """
    import pandas as pd

    from lorun.bench import backward, loop, precision, startup, steps, targets
    from lorun.devices import pick_device
    from lorun.results.rows import write_table

    chosen = kinds or [kind for kind in KINDS if kind != "precision"]
    for kind in chosen:
        if kind not in KINDS:
            raise UnknownName("benchmark", kind, KINDS)
    threads = threads or os.cpu_count() or 1
    profiles = config or [Path("config/desk.yaml"), Path("config/paper.yaml")]
    verdicts = []
    if "steps" in chosen:
        measured = [
            steps.measure(profile, what, repeats=repeats, threads=threads, device=device)
            for profile in profiles
            for what in steps.COMPARED
        ]
        write_table(out / "steps.csv", steps.table(measured, threads, device))
        verdicts.append(targets.judge(measured, on_gpu=pick_device(device).type == "cuda"))
    if "loop" in chosen:
        write_table(out / "loop.csv", loop.measure(profiles[0], repeats=repeats, threads=threads))
    if "backward" in chosen:
        write_table(out / "backward.csv", backward.measure(repeats, threads=1))
    if "startup" in chosen:
        found = startup.measure(Path("config/smoke.yaml"), data, repeats=min(repeats, 7))
        write_table(out / "startup.csv", found)
        verdicts.append(targets.judge_startup(found))
    if "precision" in chosen:
        write_table(out / "precision.csv", precision.measure(profiles[0], runs=runs, data=data))
    if verdicts:
        table = pd.concat(verdicts, ignore_index=True)
        if {"steps", "startup"} <= set(chosen):
            write_table(out / "targets.csv", table)
        typer.echo(table.to_string(index=False, na_rep=""))
    typer.echo(f"wrote {out}")
