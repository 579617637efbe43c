"""Train in float32 and in bfloat16: validation PSNR and seconds of each, and the difference with its interval.

`python workflow/bench_bfloat16.py` writes `results/bench/precision_training.csv`, and the differences over seeds into
`results/bench/precision_training_differences.csv`. By these, `precision: auto` takes bfloat16 on a CPU that has
instructions for it. Both trainings of a pair have the same seed, so the same patches and the same initial weights.
"""

import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer
from rich.progress import track
from scipy.special import stdtrit

from lorun.bench.variants import where
from lorun.errors import LorunError
from lorun.methods import Experiment
from lorun.profiles import load_profile
from lorun.results.store import write_table
from lorun.training import Outcome, train

LEVEL = 0.95
"""Coverage of the intervals."""

PRECISIONS = ("float32", "bfloat16")


def measure(config: Path, methods: list[str], *, seeds: int, share: float, data: Path, runs: Path) -> pd.DataFrame:
    """A row per training: every method in the first setting of every task, under each seed and precision.

    `share` is the length of a training, its base's included, as a share of the profile's.

    Raises:
        LorunError: a method is not in the profile or not trained; a dataset is missing; a training did not complete.
    """
    profile = load_profile(config)
    places = [
        (task, next(iter(profile.tasks[task].settings_of(method))), method)
        for task in profile.tasks
        for method in methods
    ]
    rows = []
    for place, seed, precision in track(
        list(product(places, range(seeds), PRECISIONS)), disable=not sys.stderr.isatty()
    ):
        experiment = _at(profile.resolve(*place, seed, length=share), precision)
        outcomes = _train(experiment, data, runs)
        rows.append(
            {
                "profile": config.stem,
                **experiment.labels,
                "precision": precision,
                "share": share,
                "steps": sum(one.steps for one in outcomes),
                "validation_psnr": round(_score(experiment, outcomes[-1]), 4),
                "seconds": round(sum(one.seconds for one in outcomes), 2),
                **where(1),
            }
        )
    return pd.DataFrame(rows)


def differences(frame: pd.DataFrame) -> pd.DataFrame:
    """bfloat16 minus float32: a row per task and method, and one for all of them.

    `difference` is the mean of the pairs' differences (dB), with a t-interval from `low` to `high`. `seed_sd` is the
    standard deviation of float32 over seeds: what another seed changes. `time_ratio` is a median.
    """
    place = ["task", "method"]
    table = frame.pivot(index=[*place, "seed"], columns="precision", values=["validation_psnr", "seconds"])
    psnr, seconds = table["validation_psnr"], table["seconds"]
    pairs = pd.DataFrame({"difference": psnr.bfloat16 - psnr.float32, "ratio": seconds.bfloat16 / seconds.float32})
    spread = psnr.float32.groupby(place).std()
    rows = [
        {"task": task, "method": method, **_interval(group), "seed_sd": round(spread[task, method], 4)}
        for (task, method), group in pairs.groupby(place, sort=False)
    ]
    pooled = (spread**2).mean() ** 0.5
    return pd.DataFrame([*rows, {"task": "all", "method": "all", **_interval(pairs), "seed_sd": round(pooled, 4)}])


def _interval(pairs: pd.DataFrame) -> dict[str, Any]:
    count, mean = len(pairs), pairs.difference.mean()
    half = stdtrit(count - 1, (1 + LEVEL) / 2) * pairs.difference.std() / count**0.5
    return {
        "pairs": count,
        "difference": round(mean, 4),
        "low": round(mean - half, 4),
        "high": round(mean + half, 4),
        "time_ratio": round(pairs.ratio.median(), 3),
    }


def _at(experiment: Experiment, precision: str) -> Experiment:
    """The experiment and its bases in another precision."""
    spec: Any = experiment.spec
    if experiment.training is None:
        raise LorunError(f"{experiment.method!r} is not trained: choose another method")
    changed: dict[str, Any] = {"training": spec.training.model_copy(update={"precision": precision})}
    if experiment.base is not None:
        changed["base"] = _at(experiment.base, precision)
    return experiment.model_copy(update={"spec": spec.model_copy(update=changed)})


def _train(experiment: Experiment, data: Path, runs: Path) -> list[Outcome]:
    """Train the bases, then the experiment."""
    before = [] if experiment.base is None else _train(experiment.base, data, runs)
    return [*before, train(experiment, runs=runs, data=data, device=torch.device("cpu"))]


def _score(experiment: Experiment, outcome: Outcome) -> float:
    score = outcome.curve[-1].validation_psnr if outcome.curve else None
    if outcome.status != "completed" or score is None:
        raise LorunError(f"{experiment.name}: the training has no score: {outcome.status} {outcome.message or ''}")
    return score


def main(
    config: Annotated[Path, typer.Option("--config", "-c", help="Profile.")] = Path("config/base.yaml"),
    methods: Annotated[list[str] | None, typer.Option("--method", "-m", help="Default: block_k and lorun.")] = None,
    seeds: Annotated[int, typer.Option(min=2, help="Number of seeds.")] = 3,
    share: Annotated[float, typer.Option(min=0.01, max=1, help="Length, as a share of a whole training.")] = 0.15,
    data: Annotated[Path, typer.Option(help="Folder of all datasets.")] = Path("data"),
    out: Annotated[Path, typer.Option(help="Folder of the tables.")] = Path("results/bench"),
) -> None:
    """Train, and write the two tables."""
    with tempfile.TemporaryDirectory() as runs:
        chosen = methods or ["block_k", "lorun"]
        frame = measure(config, chosen, seeds=seeds, share=share, data=data, runs=Path(runs))
    found = differences(frame)
    write_table(out / "precision_training.csv", frame)
    write_table(out / "precision_training_differences.csv", found)
    typer.echo(found.to_string(index=False))


if __name__ == "__main__":
    typer.run(main)
