"""Choose the constants of a baseline that is not trained: mean PSNR over images of a task, for each combination.

`python workflow/tune_options.py total_variation config/desk.yaml cs last=0.0005,0.001`, from the project's root, tries
every combination of values in every setting of the task. A constant is an option of the baseline, or an argument of its
class where it has no options. A baseline with a base is tried on the trained bases of all seeds. Test images are never
read.
"""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import nn

from lorun import plugins
from lorun.config.reading import load_yaml
from lorun.data.images import load_dataset
from lorun.evaluation.metrics import psnr
from lorun.evaluation.reconstruct import load_system, reconstruct
from lorun.methods import Experiment
from lorun.physics import Operator
from lorun.profiles import load_profile
from lorun.system import System
from lorun.training.start import fitted_system

DATA, RUNS = Path("data"), Path("runs")
IMAGES = 6
SIDE = 256  # images are cropped to this at most, pixels


def main(
    baseline: str,
    config: Annotated[Path, typer.Argument(help="Profile.")],
    task: str,
    constants: Annotated[list[str] | None, typer.Argument(help="NAME=VALUE,VALUE,... to try.")] = None,
) -> None:
    """Print the mean PSNR of an untrained baseline on validation images, for each choice of its constants."""
    torch.set_num_threads(1)
    grid = {name: load_yaml(f"[{values}]") for name, _, values in (one.partition("=") for one in constants or ())}
    profile = load_profile(config)
    data = profile.tasks[task].data
    if data.validation is None:
        raise SystemExit("the task has no validation images")
    loaded = load_dataset(DATA, data.validation, "validation", data.channels)
    images = {name: loaded[name][:, :SIDE, :SIDE] for name in list(loaded)[:IMAGES]}
    for setting in profile.tasks[task].settings_of(baseline):
        experiments = [profile.experiment(task, setting, baseline, seed) for seed in profile.seeds]
        physics = fitted_system(experiments[0], DATA).physics
        initial: Any = plugins.build("initial_reconstruction", physics, data.channels)
        print(f"{setting}, initial reconstruction: {mean_psnr(initial, physics, images):.3f} dB")
        for values in product(*grid.values()):
            chosen = dict(zip(grid, values, strict=True))
            tried = experiments if experiments[0].base else experiments[:1]
            score = fmean(mean_psnr(network(one, physics, chosen), physics, images) for one in tried)
            words = ", ".join(f"{name} {value:g}" for name, value in chosen.items())
            print(f"{setting}, {words or 'defaults'}: {score:.3f} dB", flush=True)


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


if __name__ == "__main__":
    typer.run(main)
