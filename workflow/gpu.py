"""What a GPU shows in minutes: LoRun at the paper's size timed beside plain peft and Block-K, trained, and scored.

`python workflow/gpu.py OUT` writes into the folder OUT:

    speed.csv      images/s of a training step, counted FLOP/s as a share of a large bfloat16 matrix product's, and the
                   peak bytes that were allocated beside those that are counted
    profile.yaml   the paper's profile, cut to compressed sensing at 25 % and to a budget that fits into the minutes
    runs/          the trainings, with validation scores and checkpoints
    scores.csv     the mean on Set11

Started again with the same OUT, it goes on where it stopped; the budget follows from speed.csv, so it stays.
`--dry-run` does the same in three steps of tiny networks, on any machine.
"""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer
from torch.utils.benchmark import Timer

from lorun.accounting.building import step_build
from lorun.accounting.flops import step_flops
from lorun.accounting.live_bytes import cuda_training_peak, training_step_bytes
from lorun.accounting.prediction import resized
from lorun.bench.rounds import take_turns
from lorun.bench.steps import prepare
from lorun.bench.variants import by_peft, for_variant, training_of, where, with_strategy
from lorun.devices import pick_device
from lorun.methods import PRETRAIN, Experiment
from lorun.profiles import Profile
from lorun.profiles.derived import derive_profile
from lorun.results.paths import EVALUATION
from lorun.results.store import read_evaluation, write_table

TASK, SETTING = "cs", "r25"
TIMED: dict[str, Callable[[Experiment], Experiment]] = {
    "lorun": lambda one: one,
    "lorun_by_peft": by_peft,
    "block_k": lambda one: with_strategy(one, "block_k"),
}
CEILING = 8192  # rows of the matrices whose product is the ceiling

_TINY: dict[str, Any] = {
    "data": {"train": "photos", "validation": "photos", "test": ["photos"]},
    "physics": {"initial_blocks": 200},
    "denoiser": {"widths": [4, 8, 8, 8], "blocks": 1},
    "unfolding": {"stages": 2},
    "training": {"batch": 2, "patch": 32},
    "accounting": {"batch": 2, "patch": 32, "image": 64},
}


def cut_profile(out: Path, budget: float, *, dry_run: bool) -> tuple[Path, Profile]:
    """The profile of this run, written to OUT/profile.yaml. `budget`, in FLOPs, is that of LoRun with its base."""
    length: dict[str, Any] = {"budget": budget, "checkpoint_every": 200, "validate_every": 500, "warmup_steps": 200}
    if dry_run:
        length = {"steps": 3, "phase1_steps": 1, "checkpoint_every": 1, "validate_every": 1, "warmup_steps": 1}
    changes = {**(_TINY if dry_run else {"data": {"train": "bsds500", "validation": "bsds500", "test": ["set11"]}})}
    changes["training"] = {**changes.get("training", {}), **length, "tuning": None}
    changes["lora"] = {"layout": "loralib"}
    return derive_profile(
        Path("config/paper.yaml"), out, ["lorun", "block_k"], tasks=[TASK], only=TASK, changes=changes
    )


def speed(config: Path, experiment: Experiment, rounds: int) -> pd.DataFrame:
    """A row per variant: images/s with quartiles, share of the ceiling, and bytes at the peak of a step."""
    device, size = pick_device("auto"), experiment.accounting
    experiment = resized(experiment, training={"batch": size.batch, "patch": size.patch})
    shape = (size.batch, experiment.channels, size.patch, size.patch)
    jobs = {name: partial(prepare, config, name, "training step", 1) for name in TIMED}
    seconds = take_turns(jobs, rounds, "training steps")
    ceiling = matrix_product_flops(device)
    rows = []
    for name, change in TIMED.items():
        timed = change(for_variant(experiment, name, device))
        build, training, flops = step_build(timed, shape[2:]), training_of(timed), step_flops(timed)
        low, median, high = seconds[name].quantile([0.25, 0.5, 0.75])
        rows.append(
            {
                "variant": name,
                "images_per_s": round(size.batch / median, 2),
                "images_per_s_low": round(size.batch / high, 2),
                "images_per_s_high": round(size.batch / low, 2),
                "step_flops": flops,
                "share_of_ceiling": round(flops / median / ceiling, 4),
                "peak_counted": training_step_bytes(build, shape, training).total,
                "peak_measured": cuda_training_peak(build, shape, training),
                **where(1, "auto"),
            }
        )
    return pd.DataFrame(rows)


def matrix_product_flops(device: torch.device) -> float:
    """FLOP/s of a product of two bfloat16 matrices of `CEILING` rows (256 on a CPU), the median of some."""
    rows = CEILING if device.type == "cuda" else 256
    a, b = (torch.rand(rows, rows, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2.0 * rows**3 / float(Timer("a @ b", globals={"a": a, "b": b}).timeit(20).median)


def main(
    out: Annotated[Path, typer.Argument(help="Folder of what is written.")],
    minutes: Annotated[float, typer.Option(min=0.1, help="Of training, pretraining included.")] = 5,
    rounds: Annotated[int, typer.Option(min=2, help="Timed steps of each variant.")] = 15,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Three steps of tiny networks.")] = False,
) -> None:
    """Time, train, and score; print the speed and the mean PSNR."""
    path, profile = cut_profile(out, 1e15, dry_run=dry_run)
    table = out / "speed.csv"
    if not table.exists():
        write_table(table, speed(path, profile.experiment(TASK, SETTING, "lorun", 0), rounds))
    measured = pd.read_csv(table).set_index("variant")
    typer.echo(measured.iloc[:, :-5].T.to_string())
    steps_per_s = float(measured.images_per_s["lorun"]) / profile.tasks[TASK].accounting.batch
    budget = 60 * minutes * steps_per_s * float(measured.step_flops["lorun"])
    path, profile = cut_profile(out, budget, dry_run=dry_run)
    runs = out / "runs"
    place = ["--config", str(path), "--task", TASK, "--setting", SETTING, "--runs", str(runs)]
    for command, method in (("train", PRETRAIN), ("train", "lorun"), ("evaluate", "lorun")):
        subprocess.run([sys.executable, "-m", "lorun", command, *place, "--method", method], check=True)
    _, rows = read_evaluation(runs / profile.experiment(TASK, SETTING, "lorun", 0).folder / EVALUATION)
    scores = rows.groupby(["dataset", "protocol", "metric"], sort=False).value.mean().round(4).reset_index()
    write_table(out / "scores.csv", scores)
    typer.echo(scores.to_string(index=False))


if __name__ == "__main__":
    typer.run(main)
