"""Choose the constants of a baseline that is not trained: mean PSNR over images of a task, by their values.

`python workflow/tune_classical.py total_variation --config config/desk.yaml --task cs --constant last 0.0005 0.001`,
from the project's root, tries every combination of the constants' values, which are arguments of the class `Baseline`,
in every setting of the task. Test images are never read.
"""

import argparse
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorun import plugins
from lorun.config import TaskConfig, load_profile
from lorun.data.images import load_dataset
from lorun.data.patches import in_unit_range, random_blocks
from lorun.evaluation.metrics import psnr
from lorun.physics import Operator
from lorun.unfolding import initial_reconstruction

SIDE = 256  # images are cut to this at most, pixels


def main() -> None:
    parser = argparse.ArgumentParser(description="Mean PSNR of a baseline, by its constants.")
    parser.add_argument("baseline", help="one that nothing is trained for")
    parser.add_argument("--config", type=Path, required=True, help="profile")
    parser.add_argument("--task", required=True)
    parser.add_argument("--settings", nargs="+", help="of the task; all by default")
    parser.add_argument(
        "--constant", nargs="+", action="append", default=[], metavar=("NAME", "VALUE"), help="and its values"
    )
    parser.add_argument(
        "--splits", nargs="+", choices=["train", "validation"], default=["validation"], help="whose images are tried"
    )
    parser.add_argument("--images", type=int, default=6, help="of each split, in order")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of all datasets")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    grid = {name: [number(value) for value in values] for name, *values in arguments.constant}
    task = load_profile(arguments.config).tasks[arguments.task]
    images = [
        in_unit_range(torch.from_numpy(image[:, :SIDE, :SIDE].copy()))
        for split in arguments.splits
        for image in list(of_split(task, split, arguments.data).values())[: arguments.images]
    ]
    for setting in arguments.settings or task.settings:
        physics = fitted_physics(task, setting, arguments.data)
        for said, mean in tried(arguments.baseline, physics, images, grid):
            print(f"{setting}, {said}: {mean:.3f} dB", flush=True)


def of_split(task: TaskConfig, split: str, data: Path) -> Mapping[str, np.ndarray]:
    name = task.data.train if split == "train" else task.data.validation
    return load_dataset(data, name, split, task.data.channels)


def fitted_physics(task: TaskConfig, setting: str, data: Path) -> Operator:
    config = task.physics_of(setting)
    physics = config.build()
    if config.fitted:
        training = of_split(task, "train", data)
        physics.fit(lambda side, blocks: random_blocks(training, side, blocks, 0))
    return physics


def tried(
    name: str, physics: Operator, images: list[Tensor], grid: dict[str, list[float]]
) -> Iterator[tuple[str, float]]:
    """Mean PSNR of the first estimate, then for each combination of constants."""
    yield "first estimate", mean_psnr(initial_reconstruction, physics, images)
    for values in product(*grid.values()):
        constants: dict[str, Any] = dict(zip(grid, values, strict=True))
        said = ", ".join(f"{constant} {value:g}" for constant, value in constants.items())
        baseline = plugins.build(name, physics, len(images[0]), **constants)
        yield said or "as it is", mean_psnr(baseline, physics, images)


def mean_psnr(reconstruct: Any, physics: Operator, images: list[Tensor]) -> float:
    """Over channels, then images and the operator's degradations; dB."""
    variants = [physics.under(degradation) for degradation in physics.degradations] or [physics]
    return float(np.mean([np.mean(psnr_of_channels(reconstruct, each, x)) for each in variants for x in images]))


def psnr_of_channels(reconstruct: Any, physics: Operator, x: Tensor) -> list[float]:
    height, width = physics.scored_size(*x.shape[1:])
    x, physics = x[:, :height, :width], physics.at(height, width)
    estimate = reconstruct(physics(x[None]), physics)[0].clamp(0, 1)
    return [psnr(ours[None], truth[None]) for ours, truth in zip(estimate, x, strict=True)]


def number(text: str) -> float:
    """An int where it is one: constants that count steps have no fraction."""
    return int(text) if text.isdecimal() else float(text)


if __name__ == "__main__":
    main()
