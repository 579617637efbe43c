"""Simulate how often the gate is right: its false alarms under noise alone, and how often it catches a loss of PSNR.

`python workflow/gate_rates.py` prints both as a Markdown table (docs/gate.md). The scores are those of a committed
result set; the noise has the standard deviation that the seeds of each method show, which few seeds estimate badly. A
training gets one normal deviate, which moves all its metrics for better or worse.
"""

from itertools import product
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from lorun.evaluation.metrics import METRICS
from lorun.gate import Limits
from lorun.gate.scores import compare_scores, judge_scores
from lorun.results.store import RUN, ResultSet, read_result_set

RESULTS = "tests/gate/real"
REPEATS = 200  # comparisons for each rate
SEEDS = (2, 3, 5)  # numbers of seeds
LOSSES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # dB

NOISE = {
    "none": "none: equal code on a CPU",
    "same": "the same seeds, trained by other code or on a GPU",
}

SAME_SEEDS = 0.45
"""How much two trainings from the same seed differ, in parts of what two trainings from different seeds do.

Measured: `quick` before and after its twelve networks were trained anew by other code (git revisions 30992e0 and
c539559). PSNR differs by 0.045 dB (root mean square); the standard deviation over seeds of 0.07 dB would give 0.10 dB.
"""


def mean_scores(results: ResultSet, seeds: int) -> pd.DataFrame:
    """The mean and standard deviation over seeds of each score, a line for each of `seeds` simulated trainings."""
    scores = results.scores()
    line = ["task", "dataset", "setting", "method", "metric"]
    of_seeds = scores[scores.steps > 0].groupby([*line, "seed"])["value"].mean()
    frame = of_seeds.groupby(line).agg(["mean", "std"]).reset_index()
    frame["sign"] = frame.metric.map({name: 1.0 if one.better == "higher" else -1.0 for name, one in METRICS.items()})
    return frame.merge(pd.DataFrame({"seed": range(seeds)}), how="cross")


def draw(scores: pd.DataFrame, noise: str, random: np.random.Generator, loss: float, task: str) -> pd.DataFrame:
    """Scores of a reference and a candidate, whose PSNR is `loss` dB lower in all methods of `task`."""
    runs = scores.groupby(list(RUN)).ngroup().to_numpy()
    before, other = random.standard_normal((2, runs.max() + 1))[:, runs]
    after = {"none": before, "same": before + SAME_SEEDS * np.sqrt(2) * other}[noise]
    lost = loss * ((scores.task == task) & (scores.metric == "psnr"))
    reference, candidate = (scores["mean"] + scores["std"] * scores.sign * effect for effect in (before, after))
    worse = (reference - candidate + lost) * scores.sign
    return scores.assign(before=reference, after=candidate - lost, loss=worse.round(9))


def rate(scores: pd.DataFrame, noise: str, limits: Limits, loss: float = 0.0, task: str = "") -> float:
    """The fraction of comparisons that fail; with a task, by a finding about it."""
    random = np.random.default_rng(0)
    failed = 0
    for _ in range(REPEATS):
        compared = compare_scores(draw(scores, noise, random, loss, task))
        found = judge_scores(compared, limits)
        failed += any(one.verdict == "failed" and one.subject.startswith(task) for one in found)
    return failed / REPEATS


def main(alpha: Annotated[float, typer.Option(help="As of `lorun gate`.")] = 0.005) -> None:
    """Print the rate of false alarms and the power against losses of PSNR, by noise, number of seeds and task."""
    print(f"| noise | seeds | task | false alarms | {' | '.join(f'{loss} dB' for loss in LOSSES)} |")
    print(f"|{'---|' * (4 + len(LOSSES))}")
    for noise, count in product(NOISE, SEEDS):
        scores = mean_scores(read_result_set(RESULTS), count)
        limits = Limits(alpha=alpha)
        alarms = rate(scores, noise, limits)
        for task in sorted(scores.task.unique()):
            power = (rate(scores, noise, limits, loss, task) for loss in LOSSES)
            cells = " | ".join(f"{value:.2f}" for value in power)
            print(f"| {NOISE[noise]} | {count} | {task} | {alarms:.3f} | {cells} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
