"""Choose the constants of a baseline that is not trained: mean PSNR over images of a task, for each combination.

`python workflow/tune_options.py total_variation --config config/desk.yaml --task cs --constant last 0.0005 0.001`, from
the project's root, tries every combination of values in every setting of the task. A constant is an option of the
baseline, or an argument of its class where it has no options. A baseline with a base is tried on the trained bases of
all seeds. Test images are never read.
"""

import argparse
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import nn

from lorun import plugins
from lorun.data.images import load_dataset
from lorun.evaluation.metrics import psnr
from lorun.evaluation.reconstruct import load_system, reconstruct
from lorun.methods import Experiment
from lorun.physics import Operator
from lorun.profiles import TaskConfig, load_profile
from lorun.system import System
from lorun.training.start import fitted_system

DATA, RUNS = Path("data"), Path("runs")
SIDE = 256  # images are cropped to this at most, pixels


def main() -> None:
    parser = argparse.ArgumentParser(description="Mean PSNR of an untrained baseline for each choice of its constants.")
    parser.add_argument("baseline")
    parser.add_argument("--config", type=Path, required=True, help="profile")
    parser.add_argument("--task", required=True)
    parser.add_argument("--settings", nargs="+", help="settings of the task (default: all)")
    parser.add_argument(
        "--constant", nargs="+", action="append", default=[], metavar=("NAME", "VALUE"), help="values to try"
    )
    parser.add_argument("--splits", nargs="+", choices=["train", "validation"], default=["validation"])
    parser.add_argument("--images", type=int, default=6, help="images of each split")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    grid = {name: [number(value) for value in values] for name, *values in arguments.constant}
    profile = load_profile(arguments.config)
    task = profile.tasks[arguments.task]
    images: dict[str, np.ndarray] = {}
    for split in arguments.splits:
        images |= images_of(task, split, arguments.images)
    for setting in arguments.settings or task.settings_of(arguments.baseline):
        experiments = [profile.experiment(arguments.task, setting, arguments.baseline, s) for s in profile.seeds]
        physics = fitted_system(experiments[0], DATA).physics
        initial: Any = plugins.build("initial_reconstruction", physics, task.data.channels)
        print(f"{setting}, initial reconstruction: {mean_psnr(initial, physics, images):.3f} dB")
        for values in product(*grid.values()):
            constants = dict(zip(grid, values, strict=True))
            tried = experiments if experiments[0].base else experiments[:1]
            score = fmean(mean_psnr(network(one, physics, constants), physics, images) for one in tried)
            words = ", ".join(f"{name} {value:g}" for name, value in constants.items())
            print(f"{setting}, {words or 'defaults'}: {score:.3f} dB", flush=True)


def images_of(task: TaskConfig, split: str, count: int) -> dict[str, np.ndarray]:
    """Images (C, H, W) by name, cropped to `SIDE`."""
    dataset = task.data.train if split == "train" else task.data.validation
    if dataset is None:
        raise SystemExit(f"the task names no dataset for the split {split!r}")
    images = load_dataset(DATA, dataset, split, task.data.channels)
    return {f"{split}/{name}": images[name][:, :SIDE, :SIDE] for name in list(images)[:count]}


def network(experiment: Experiment, physics: Operator, constants: Mapping[str, Any]) -> nn.Module:
    """The baseline with other constants, on its trained base if it has one."""
    spec: Any = experiment.spec
    has_options = hasattr(plugins.load(spec.reference), "Options")
    options = {**spec.options, **constants} if has_options else spec.options
    arguments: Mapping[str, Any] = {} if has_options else constants
    base = None if experiment.base is None else experiment.base.build_network(physics)
    built: Any = plugins.build(spec.reference, physics, experiment.channels, options, base, **arguments)
    if experiment.base is not None:
        built.load_base(load_system(experiment.base, RUNS).network.state_dict(), step_size=False)
    return built.eval()  # type: ignore[no-any-return]


def mean_psnr(network: nn.Module, physics: Operator, images: Mapping[str, np.ndarray]) -> float:
    """Mean over channels, then over images and the operator's degradations; dB."""
    scores = []
    for one in reconstruct(System(network, physics), images, torch.device("cpu")):
        assert one.truth is not None
        channels = zip(one.estimate.clamp(0, 1), one.truth, strict=True)
        scores.append(fmean(psnr(ours[None], truth[None]) for ours, truth in channels))
    return fmean(scores)


def number(text: str) -> float:
    """An int if it is one: a constant that counts steps has no fraction."""
    return int(text) if text.isdecimal() else float(text)


if __name__ == "__main__":
    main()
