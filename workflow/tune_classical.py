"""Choose a constant of a baseline that is not trained: mean PSNR over validation images, by its value.

`python workflow/tune_classical.py total_variation --values 0.0005 0.001 0.003`, from the project's root. Reads the
training and validation splits of bsds500; test images are never read.
"""

import argparse
from importlib import import_module
from pathlib import Path

import torch

from lorun.config import BlockCSConfig
from lorun.data.images import load_dataset
from lorun.data.patches import random_blocks
from lorun.evaluation.metrics import psnr
from lorun.physics import build_physics
from lorun.unfolding import initial_estimate


def main() -> None:
    parser = argparse.ArgumentParser(description="Mean PSNR of a baseline on validation images, by its constant.")
    parser.add_argument("baseline", choices=["total_variation", "plug_and_play"])
    parser.add_argument("--values", type=float, nargs="+", required=True, help="of the constant LAST")
    parser.add_argument("--ratios", type=float, nargs="+", default=[10.0, 25.0], help="measurements, percent")
    parser.add_argument("--images", type=int, default=6, help="of the validation split of bsds500, in order")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of all datasets")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    training = load_dataset(arguments.data, "bsds500", "train", 1)
    validation = load_dataset(arguments.data, "bsds500", "validation", 1)
    images = [torch.from_numpy(image[:, :256, :256]).float() / 255 for image in validation.values()][: arguments.images]
    module = import_module(f"baselines.{arguments.baseline}.baseline")
    for ratio in arguments.ratios:
        physics = build_physics(BlockCSConfig(ratio=ratio))
        physics.fit(lambda side, count: random_blocks(training, side, count, 0))
        for value in [None, *arguments.values]:
            total = 0.0
            for x in images:
                bound = physics.at(*x.shape[1:])
                y = bound(x[None])
                estimate = initial_estimate(y, bound) if value is None else module.Baseline(bound, 1, value)(y, bound)
                total += psnr(estimate[0].clamp(0, 1), x)
            shown = "first estimate" if value is None else f"{value:g}"
            print(f"ratio {ratio:g} %, {shown}: {total / len(images):.3f} dB", flush=True)


if __name__ == "__main__":
    main()
