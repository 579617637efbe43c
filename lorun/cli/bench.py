"""`lorun bench`, `lorun latency` and `lorun scaling`: time and bytes, and the targets for them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from lorun.cli.options import Config
from lorun.errors import one_of

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("steps", "startup", "dry_run")
OUT = Path("results/bench")
ROUNDS = 15


def bench(kinds: Annotated[list[str] | None, Argument(help=f"{', '.join(KINDS)}; default: all.")] = None) -> None:
    """Measure, write tables into results/bench, and print which targets are met. A missed target is not an error.

    steps: training steps and reconstructions of LoRun, plain peft, Block-K and deepinv, at the sizes of desk and paper:
    seconds and bytes, on the GPU if there is one.
    startup: time from the start of `lorun train` to its first step.
    dry_run: time of a dry run of the workflow on a profile of 10,000 jobs. It needs the project's folder.

    Times are medians over rounds, with quartiles. Run nothing else on the machine meanwhile.
    """
    from lorun.bench import commands, steps
    from lorun.cores import available_cores
    from lorun.devices import pick_device

    chosen = {one_of("benchmark", kind, KINDS) for kind in kinds or KINDS}
    if "steps" in chosen:
        threads = available_cores()
        pairs = [(Path(f"config/{profile}.yaml"), what) for profile in ("desk", "paper") for what in steps.COMPARED]
        measured = [steps.measure(*pair, repeats=ROUNDS, threads=threads) for pair in pairs]
        judged = steps.judge(measured, on_gpu=pick_device("auto").type == "cuda")
        _write("steps", steps.table(measured, threads), judged)
    if "startup" in chosen:
        times = commands.measure_startup(Path("config/smoke.yaml"), Path("data"), repeats=7)
        _write("startup", times, commands.judge_startup(times))
    if "dry_run" in chosen:
        planned = commands.measure_dry_run(Path("config/quick.yaml"), Path(), repeats=3)
        _write("dry_run", planned, commands.judge_dry_run(planned))
    typer.echo(f"wrote {OUT}")


def _write(kind: str, measured: "pd.DataFrame", judged: "pd.DataFrame") -> None:
    """Write what was measured; print which targets are met, and write them beside those of the other kinds."""
    from lorun.results.store import write_table

    write_table(OUT / f"{kind}.csv", measured)
    typer.echo(judged.to_string(index=False, na_rep=""))
    judged.insert(0, "benchmark", kind)
    path = OUT / "targets.csv"
    table = _with_others(path, judged, "benchmark")
    write_table(path, table.sort_values("benchmark", key=lambda names: names.map(KINDS.index), kind="stable"))


def _with_others(path: Path, table: "pd.DataFrame", column: str) -> "pd.DataFrame":
    """A table after the rows at `path` that have other values in a column."""
    import pandas as pd

    from lorun.results.store import read_table

    if not path.exists():
        return table
    before = read_table(path)
    others = before[~before[column].isin(table[column])]
    return pd.concat([others, table]) if len(others) else table


def latency(config: Config) -> None:
    """Time a reconstruction by every method of a profile, in turns, with untrained weights.

    Writes results/bench/latency.csv, where the rows of other profiles stay.

    Each round calls every method once, each in a process of its own, so that all see the same machine. One method is
    timed twice; this pair and methods with the same network must agree within 5 %, or the report page shows no latency
    of their setting. Run nothing else on the machine meanwhile. Uses the GPU if there is one.
    """
    from lorun.bench.latency import agreed, measure
    from lorun.cores import available_cores
    from lorun.results.store import write_table

    table, out = measure(config, repeats=ROUNDS, threads=available_cores()), OUT / "latency.csv"
    write_table(out, _with_others(out, table, "profile"))
    for (task, setting), rows in table.groupby(["task", "setting"], sort=False):
        typer.echo(f"{task}/{setting}: methods with the same network {'agree' if agreed(rows) else 'differ'}")
        typer.echo(rows[["method", "same_network", "median_ms", "q25_ms", "q75_ms"]].to_string(index=False, na_rep=""))
    typer.echo(f"wrote {out}")


def scaling(
    config: Config,
    stages: Annotated[int, Option(min=1, max=100, help="The largest K.")] = 20,
    out: Annotated[Path, Option(help="Table; the figure goes next to it.")] = OUT / "scaling.csv",
) -> None:
    """Count parameters and bytes of every sharing strategy against the number of stages.

    Each is counted with and without recomputation, at the sizes of the last setting of the profile's first task whose
    operator is not learned.
    """
    from lorun.bench.scaling import count, write_figure
    from lorun.bench.variants import benchmarked
    from lorun.profiles import load_profile
    from lorun.results.store import write_table

    frame = count(benchmarked(load_profile(config)), stages)
    write_table(out, frame)
    write_figure(frame, out.with_suffix(".png"))
    typer.echo(f"wrote {out} ({len(frame)} rows) and {out.with_suffix('.png')}")
