"""How often the gate is right: false alarms under noise alone, and detections of a loss, by simulation.

`python -m lorun.gate.rates` prints both as Markdown. The scores are those of a committed result set; the noise is what
its seeds show, method by method: the spread of a score's mean over images. A training gets one normal deviate that
moves all its metrics, better or worse together. Two seeds tell a spread so badly that this overstates by far how
methods differ in it, which the tests take for small: `--alike` is the other extreme. With `--common`, a seed has a part
of its effect on all methods at once.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import typer

from lorun.errors import UnknownName
from lorun.evaluation.metrics import METRICS
from lorun.gate.findings import Finding
from lorun.gate.limits import Limits
from lorun.gate.scores import RunScore, compare_scores, judge_scores
from lorun.gate.sources import read_result_sets

Noise = Literal["none", "same_seeds", "fresh_seeds"]

NOISE: dict[Noise, str] = {
    "none": "equal code on a CPU: no noise",
    "same_seeds": "the same seeds, trained by other code or on a GPU",
    "fresh_seeds": "other seeds",
}

SAME_SEEDS = 0.45
"""What two trainings from the same seed differ by, in parts of what two trainings from different seeds do.

Measured: the committed `quick` before and after its networks were trained anew with fused Adam and composed adapters
(git revisions 30992e0 and c539559): the PSNR of the twelve trainings differs by 0.045 dB (root mean square), where the
spread over seeds of 0.070 dB would have 0.10 dB.
"""

LOSSES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)  # dB


@dataclass(frozen=True)
class Simulated:
    """Scores of trainings to be given noise.

    scores  as they are on average over seeds
    run     per score, which training it belongs to
    seed    per training, which seed, over all methods
    sd      per score, its spread over seeds; positive where a higher value is better
    """

    scores: list[RunScore]
    run: np.ndarray
    seed: np.ndarray
    sd: np.ndarray

    @classmethod
    def of(cls, rows: pd.DataFrame, seeds: int, alike: bool = False) -> "Simulated":
        """From the rows of a result set, with so many seeds in the place of its own.

        `alike` gives all methods of a task the same spread, the root mean square of theirs.
        """
        done = rows[(rows.status == "completed") & rows.value.notna() & (rows.steps > 0)]
        line = ["task", "dataset", "setting", "method", "metric"]
        by_line = done.groupby([*line, "seed"])["value"].mean().groupby(line)
        frame = by_line.agg(["mean", "std"]).reset_index().merge(pd.DataFrame({"seed": range(seeds)}), how="cross")
        if alike:
            variance = (frame["std"] ** 2).groupby([frame[name] for name in line if name != "method"])
            frame["std"] = variance.transform("mean") ** 0.5
        fields = frame[["task", "dataset", "setting", "method", "seed", "metric", "mean", "mean"]]
        scores = [RunScore(*fields_of) for fields_of in fields.itertuples(index=False, name=None)]
        run = frame.groupby(["task", "setting", "method", "seed"]).ngroup().to_numpy()
        seed = frame.seed.to_numpy()[np.unique(run, return_index=True)[1]]
        sign = frame.metric.map(lambda name: 1.0 if METRICS[name].better == "higher" else -1.0)
        return cls(scores, run, seed, (frame["std"] * sign).to_numpy())

    @property
    def tasks(self) -> list[str]:
        """The tasks of the scores."""
        return sorted({one.task for one in self.scores})

    def draw(
        self, noise: Noise, random: np.random.Generator, loss: float = 0.0, task: str | None = None, common: float = 0.0
    ) -> list[RunScore]:
        """Scores of a reference and a candidate, whose PSNR is `loss` dB lower in all methods of `task`.

        Of the variance over seeds, the fraction `common` is the same for all methods.
        """
        before = self._effects(random, common)
        after = before
        if noise != "none":
            other = self._effects(random, common)
            after = other if noise == "fresh_seeds" else before + SAME_SEEDS * np.sqrt(2) * other
        lost = [loss if (one.task, one.metric) == (task, "psnr") else 0.0 for one in self.scores]
        reference, candidate = self.sd * before[self.run], self.sd * after[self.run] - lost
        return [
            replace(one, before=one.before + was, after=one.after + now)
            for one, was, now in zip(self.scores, reference, candidate, strict=True)
        ]

    def _effects(self, random: np.random.Generator, common: float) -> np.ndarray:
        own = random.standard_normal(len(self.seed))
        shared = random.standard_normal(self.seed.max() + 1)[self.seed]
        return np.asarray(np.sqrt(1 - common) * own + np.sqrt(common) * shared)


def judged(scores: list[RunScore], noise: Noise, alpha: float = 0.01) -> list[Finding]:
    """What the check of scores finds where the noise is of this kind."""
    limits = Limits(alpha=alpha, fresh_seeds=noise == "fresh_seeds")
    return list(judge_scores(compare_scores(scores, limits), limits))


def rate(
    simulated: Simulated,
    noise: Noise,
    repeats: int,
    *,
    loss: float = 0.0,
    task: str | None = None,
    common: float = 0.0,
    alpha: float = 0.01,
) -> float:
    """The fraction of comparisons that fail; with a `task`, by a finding about that task."""
    random = np.random.default_rng(0)
    caught = 0
    for _ in range(repeats):
        findings = judged(simulated.draw(noise, random, loss, task, common), noise, alpha)
        caught += any(one.verdict == "failed" and one.subject.startswith(task or "") for one in findings)
    return caught / repeats


def main(
    results: Annotated[str, typer.Option(help="Result set whose spread is taken.")] = "results/quick",
    repeats: Annotated[int, typer.Option(min=20, help="Comparisons for each rate.")] = 200,
    seeds: Annotated[list[int] | None, typer.Option(help="Seeds to draw, again for several; 2, 3 and 5.")] = None,
    common: Annotated[
        float, typer.Option(min=0, max=1, help="Part of a seed's variance that all methods have in common.")
    ] = 0.0,
    alike: Annotated[bool, typer.Option("--alike", help="Give all methods of a task the same spread.")] = False,
    alpha: Annotated[float, typer.Option(help="As of `lorun gate`.")] = 0.01,
    noise: Annotated[list[str] | None, typer.Option(help=f"{', '.join(NOISE)}; all.")] = None,
) -> None:
    """Print the rate of false alarms and the power against losses of PSNR, by task, noise and number of seeds."""
    rows = read_result_sets(results)[0].rows
    chosen = [of for of in NOISE if of in (noise or NOISE)]
    for name in noise or []:
        if name not in NOISE:
            raise UnknownName("noise", name, NOISE)
    print(f"| noise | seeds | task | false alarms | {' | '.join(f'{loss:g} dB' for loss in LOSSES)} |")
    print(f"|---|---|---|---|{'---|' * len(LOSSES)}")
    for of in chosen:
        for count in seeds or [2, 3, 5]:
            simulated = Simulated.of(rows, count, alike)
            alarms = rate(simulated, of, repeats, loss=0.0, task=None, common=common, alpha=alpha)
            for task in simulated.tasks:
                power = [
                    rate(simulated, of, repeats, loss=loss, task=task, common=common, alpha=alpha) for loss in LOSSES
                ]
                cells = " | ".join(f"{value:.2f}" for value in power)
                print(f"| {NOISE[of]} | {count} | {task} | {alarms:.3f} | {cells} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
