"""Train in float32 and in bfloat16: validation PSNR and seconds of each, and the difference with its interval.

`python workflow/bench_bfloat16.py` writes `results/bench/precision_training.csv`, and the differences over seeds into
`results/bench/precision_training_differences.csv`. By these, `precision: auto` takes bfloat16 on a CPU that has
instructions for it. Both trainings of a pair have the same seed, so the same patches and the same initial weights.
"""

import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.progress import track
from scipy.stats import ttest_1samp

from lorun.accounting.prediction import resized
from lorun.bench.variants import where
from lorun.errors import LorunError
from lorun.methods import Experiment
from lorun.profiles import load_profile
from lorun.results.paths import with_bases
from lorun.results.store import write_table
from lorun.training import train

OUT = Path("results/bench")
METHODS = ["block_k", "lorun"]
SEEDS = 3
SHARE = 0.15  # length of a training, its base's included, as a share of a whole one
PRECISIONS = ("float32", "bfloat16")


def measure(config: Path, *, data: Path, runs: Path) -> pd.DataFrame:
    """A row per training: every method in the first setting of every task, under each seed and precision.

    Raises:
        LorunError: a method is not in the profile; a dataset is missing; a training did not complete.
    """
    profile = load_profile(config)
    cases = list(product(profile.tasks.items(), METHODS, range(SEEDS), PRECISIONS))
    rows = []
    for (name, task), method, seed, precision in track(cases):
        setting = next(iter(task.settings_of(method)))
        experiment = _at(profile.resolve(name, setting, method, seed, length=SHARE), precision)
        outcomes = [train(one, runs=runs, data=data, device=torch.device("cpu")) for one in with_bases(experiment)]
        last = outcomes[-1]
        score = last.curve[-1].validation_psnr if last.status == "completed" else None
        if score is None:
            raise LorunError(f"{experiment.name}: the training has no score: {last.status} {last.message or ''}")
        rows.append(
            {
                "profile": config.stem,
                **experiment.labels,
                "precision": precision,
                "share": SHARE,
                "steps": sum(one.steps for one in outcomes),
                "validation_psnr": round(score, 4),
                "seconds": round(sum(one.seconds for one in outcomes), 2),
                **where(1),
            }
        )
    return pd.DataFrame(rows)


def differences(frame: pd.DataFrame) -> pd.DataFrame:
    """bfloat16 minus float32: a row per task and method, and one for all of them.

    `difference` is the mean of the pairs' differences (dB), with a t-interval (95 %) from `low` to `high`. `seed_sd` is
    the standard deviation of float32 over seeds: what another seed changes. `time_ratio` is a median.
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
    low, high = ttest_1samp(pairs.difference, 0).confidence_interval(0.95)
    return {
        "pairs": len(pairs),
        "difference": round(pairs.difference.mean(), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "time_ratio": round(pairs.ratio.median(), 3),
    }


def _at(experiment: Experiment, precision: str) -> Experiment:
    """The experiment and its bases in another precision."""
    base = None if experiment.base is None else _at(experiment.base, precision)
    return resized(experiment, training={"precision": precision}).model_copy(update={"base": base})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path("config/base.yaml"), data=Path("data"), runs=Path(folder))
    write_table(OUT / "precision_training.csv", measured)
    write_table(OUT / "precision_training_differences.csv", differences(measured))
    print(differences(measured).to_string(index=False))
