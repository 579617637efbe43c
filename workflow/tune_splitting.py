"""Choose the constants of deep_plug_and_play: mean PSNR over the validation images of a task, by their values.

`python workflow/tune_splitting.py --config config/tasks.yaml --task sr --constant weight 0.1 0.2 --constant last 1 2`,
from the project's root, tries every combination of the constants' values (`SplittingConfig`), with the trained
denoisers of all seeds of the profile. The best comes last. Test images are never read.
"""

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tune_classical import SIDE, fitted_physics, mean_psnr, number, of_split

from lorun.data.patches import in_unit_range
from lorun.evaluation.reconstruct import load_system
from lorun.methods import Experiment
from lorun.profiles import Profile, load_profile
from lorun.system import build_system
from lorun.unfolding import initial_reconstruction


def main() -> None:
    parser = argparse.ArgumentParser(description="Mean PSNR of deep_plug_and_play, by its constants.")
    parser.add_argument("--config", type=Path, required=True, help="profile")
    parser.add_argument("--task", required=True)
    parser.add_argument("--settings", nargs="+", help="of the task; all by default")
    parser.add_argument(
        "--constant", nargs="+", action="append", default=[], metavar=("NAME", "VALUE"), help="and its values"
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of all datasets")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the denoisers were trained")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    grid = {name: [number(value) for value in values] for name, *values in arguments.constant}
    profile = load_profile(arguments.config)
    task = profile.tasks[arguments.task]
    images = [
        in_unit_range(torch.from_numpy(image[:, :SIDE, :SIDE].copy()))
        for image in of_split(task, "validation", arguments.data).values()
    ]
    for setting in arguments.settings or task.settings:
        physics = fitted_physics(task, setting, arguments.data)
        print(f"{setting}, first estimate: {mean_psnr(initial_reconstruction, physics, images):.3f} dB", flush=True)
        denoisers = pretrained(profile, arguments.task, setting, arguments.runs)
        found = []
        for values in product(*grid.values()):
            constants = dict(zip(grid, values, strict=True))
            said = SplittingConfig.model_validate({**task.splitting.model_dump(), **constants})
            psnr = float(np.mean([mean_psnr(network(one, said), physics, images) for one in denoisers]))
            found.append((psnr, ", ".join(f"{name} {value:g}" for name, value in constants.items())))
        for psnr, of in sorted(found):
            print(f"{setting}, {of or 'as it is'}: {psnr:.3f} dB", flush=True)


def pretrained(profile: Profile, task: str, setting: str, runs: Path) -> list[tuple[Experiment, dict[str, Tensor]]]:
    """Of every seed: its experiment, and the state of the trained network whose denoiser that takes."""
    experiments = [profile.experiment(task, setting, DEEP_PLUG_AND_PLAY, seed) for seed in profile.seeds]
    return [(one, load_system(one.base, runs).network.state_dict()) for one in experiments]


def network(pretrained: tuple[Experiment, dict[str, Tensor]], said: SplittingConfig) -> Any:
    experiment, state = pretrained
    built: Any = build_system(experiment.model_copy(update={"splitting": said})).network
    built.load_base(state)
    return built.eval()


if __name__ == "__main__":
    main()
