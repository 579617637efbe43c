"""Choose the constants of a baseline that is not trained: mean PSNR over images of a task, for each combination.

`python workflow/tune_options.py total_variation --config config/desk.yaml --task cs --constant last 0.0005 0.001`, from
the project's root, tries every combination of values in every setting of the task. A constant is an option of the
baseline, or an argument of its class where it has no options. A baseline with a base is tried on the trained bases of
all seeds. Test images are never read.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lorun import plugins
from lorun.data.images import load_dataset
from lorun.evaluation.metrics import psnr
from lorun.evaluation.reconstruct import load_system
from lorun.methods import Experiment
from lorun.physics import Operator
from lorun.profiles import TaskConfig, load_profile
from lorun.training.patches import in_unit_range
from lorun.training.start import fitted_system
from lorun.unfolding import initial_reconstruction

SIDE = 256  # images are cropped to this at most, pixels

Reconstruct = Callable[[Tensor, Operator], Tensor]


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
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of all datasets")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where bases were trained")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    grid = {name: [number(value) for value in values] for name, *values in arguments.constant}
    profile = load_profile(arguments.config)
    task = profile.tasks[arguments.task]
    images = list(images_of(task, arguments.splits, arguments.images, arguments.data))
    for setting in arguments.settings or task.settings_of(arguments.baseline):
        experiments = [profile.experiment(arguments.task, setting, arguments.baseline, s) for s in profile.seeds]
        physics = fitted_system(experiments[0], arguments.data).physics
        print(f"{setting}, initial reconstruction: {mean_psnr(initial_reconstruction, physics, images):.3f} dB")
        bases = [pretrained(one, arguments.runs) for one in experiments] if experiments[0].base else [None]
        for values in product(*grid.values()):
            constants = dict(zip(grid, values, strict=True))
            scores = [mean_psnr(network(experiments[0], physics, constants, base), physics, images) for base in bases]
            words = ", ".join(f"{name} {value:g}" for name, value in constants.items())
            print(f"{setting}, {words or 'defaults'}: {np.mean(scores):.3f} dB", flush=True)


def images_of(task: TaskConfig, splits: list[str], count: int, data: Path) -> Iterator[Tensor]:
    """Images (C, H, W) in [0, 1], cropped to `SIDE`."""
    for split in splits:
        name = task.data.train if split == "train" else task.data.validation
        if name is None:
            raise SystemExit(f"the task names no dataset for the split {split!r}")
        for image in list(load_dataset(data, name, split, task.data.channels).values())[:count]:
            yield in_unit_range(torch.from_numpy(image[:, :SIDE, :SIDE].copy()))


def pretrained(experiment: Experiment, runs: Path) -> Mapping[str, Tensor]:
    """The state of the trained network that a baseline uses."""
    assert experiment.base is not None
    return load_system(experiment.base, runs).network.state_dict()


def network(
    experiment: Experiment, physics: Operator, constants: Mapping[str, Any], state: Mapping[str, Tensor] | None
) -> nn.Module:
    """The baseline with other constants."""
    spec: Any = experiment.spec
    arguments: dict[str, Any] = {"options": spec.options}
    has_options = hasattr(plugins.load(spec.reference), "Options")
    arguments |= {"options": {**spec.options, **constants}} if has_options else constants
    base = None if experiment.base is None else experiment.base.build_network(physics)
    built: Any = plugins.build(spec.reference, physics, experiment.channels, base=base, **arguments)
    if state is not None:
        built.load_base(state, step_size=False)
    return built.eval()  # type: ignore[no-any-return]


def mean_psnr(reconstruct: Reconstruct, physics: Operator, images: list[Tensor]) -> float:
    """Mean over channels, then over images and the operator's degradations; dB."""
    variants = [physics.under(degradation) for degradation in physics.degradations] or [physics]
    return float(np.mean([np.mean(psnr_of_channels(reconstruct, each, x)) for each in variants for x in images]))


def psnr_of_channels(reconstruct: Reconstruct, physics: Operator, x: Tensor) -> list[float]:
    height, width = physics.scored_size(*x.shape[1:])
    x, physics = x[:, :height, :width], physics.at(height, width)
    estimate = reconstruct(physics(x[None]), physics)[0].clamp(0, 1)
    return [psnr(ours[None], truth[None]) for ours, truth in zip(estimate, x, strict=True)]


def number(text: str) -> float:
    """An int if it is one: a constant that counts steps has no fraction."""
    return int(text) if text.isdecimal() else float(text)


if __name__ == "__main__":
    main()
