"""Score a trained run on test images: rows for the tables, reconstructions to look at."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lorun.config import Experiment
from lorun.data.checksums import dataset_identity
from lorun.data.images import load_dataset, load_folder
from lorun.data.patches import in_unit_range
from lorun.data.rendering import to_pixels
from lorun.errors import LorunError
from lorun.evaluation.protocols import get_protocol, score
from lorun.files import write_atomically
from lorun.methods import System, build_system
from lorun.provenance import provenance
from lorun.training.loop import WEIGHTS
from lorun.training.outcome import Outcome, read_outcome
from lorun.training.weights import load_state, load_weights


def evaluate(experiment: Experiment, *, runs: Path, data: Path, device: torch.device) -> list[dict[str, Any]]:
    """Rows of one run on the test split of its datasets, one per image, protocol and metric.

    A run that did not complete gives one row per dataset, protocol and metric, with its status and no value. Keeps the
    reconstructions that the experiment names in `reconstructions/DATASET/IMAGE.png` of the run's folder; of cubes, what
    they look like.

    Raises:
        LorunError: the run has not ended yet; data or weights are missing or damaged; an image is too small.
    """
    outcome = _ended(experiment, runs)
    names = experiment.data.test
    md5s = {name: dataset_identity(data, name) for name in experiment.datasets}
    common = _common(experiment, outcome, md5s, device)
    if outcome.status != "completed":
        return [
            {**common, "dataset": name, "image": None, "protocol": protocol, "metric": metric, "value": None}
            for name in names
            for protocol in experiment.evaluation.protocols
            for metric in get_protocol(protocol).metrics
        ]
    system = load_system(experiment, runs).to(device)
    rows = []
    for name in names:
        images = load_dataset(data, name, "test", experiment.data.channels)
        for image, truth, estimate in reconstruct(system, images, device):
            rows += [{**common, "dataset": name, "image": image, **row} for row in _scores(experiment, estimate, truth)]
            if image in experiment.evaluation.keep:
                write_image(runs / experiment.folder / "reconstructions" / name / f"{image}.png", estimate)
    return rows


def evaluate_folder(experiment: Experiment, folder: Path, *, runs: Path, device: torch.device) -> list[dict[str, Any]]:
    """As `evaluate`, on the images of any folder; the dataset of the rows is the folder's name."""
    outcome = _ended(experiment, runs)
    if outcome.status != "completed":
        raise LorunError(f"{experiment.name} is {outcome.status}: {outcome.message}")
    return folder_rows(experiment, outcome, load_system(experiment, runs), folder, {}, device)


def folder_rows(
    experiment: Experiment, outcome: Outcome, system: System, folder: Path, md5s: dict[str, str], device: torch.device
) -> list[dict[str, Any]]:
    """Rows of a system on the images of any folder; `md5s` as in `lorun.provenance.provenance`."""
    images = load_folder(folder, experiment.data.channels)
    common = _common(experiment, outcome, md5s, device)
    return [
        {**common, "dataset": folder.resolve().name, "image": image, **row}
        for image, truth, estimate in reconstruct(system.to(device), images, device)
        for row in _scores(experiment, estimate, truth)
    ]


def load_system(experiment: Experiment, runs: Path) -> System:
    """The trained system of a completed run, on the CPU, ready for inference."""
    path = runs / experiment.folder / WEIGHTS
    system = build_system(experiment)
    load_state(system, load_weights(path), path)
    return system.eval()


@torch.no_grad()
def reconstruct(
    system: System, images: Mapping[str, np.ndarray], device: torch.device
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Measure and reconstruct each image (C, H, W): name, truth and estimate (C, H, W), float32, on the CPU.

    Raises:
        LorunError: an image is of a size that the operator does not measure.
    """
    for name, image in images.items():
        height, width = image.shape[1:]
        smallest = system.physics.smallest
        if min(height, width) < smallest:
            raise LorunError(
                f"image {name} is {height} x {width}, smaller than the {smallest} pixels that are measured together"
            )
        try:
            physics = system.physics.at(height, width)
        except LorunError as error:
            raise LorunError(f"image {name}: {error}") from error
        truth = in_unit_range(torch.tensor(image))
        estimate = system(truth[None].to(device), physics)[0]
        yield name, truth, estimate.float().cpu()


def write_image(path: Path, image: Tensor) -> None:
    """Write (C, H, W) in [0, 1] as an 8-bit PNG, as `lorun.data.rendering.to_pixels` shows it."""
    from PIL import Image

    pixels = to_pixels(image.numpy()).transpose(1, 2, 0)
    pixels = pixels.squeeze(2) if pixels.shape[2] == 1 else pixels
    write_atomically(path, lambda part: Image.fromarray(pixels).save(part, format="PNG"))


def _ended(experiment: Experiment, runs: Path) -> Outcome:
    outcome = read_outcome(runs / experiment.folder)
    if outcome is None:
        raise LorunError(f"{experiment.name} is not trained ({runs / experiment.folder}): run `lorun train` first")
    return outcome


def _common(experiment: Experiment, outcome: Outcome, md5s: dict[str, str], device: torch.device) -> dict[str, Any]:
    trained = {f"trained_{name}": outcome.provenance[name] for name in ("commit", "dirty", "device", "threads")}
    return {
        **experiment.labels,
        "status": outcome.status,
        "message": outcome.message,
        "steps": outcome.total_steps,
        "scored_step": outcome.scored_step,
        "checkpoint_policy": outcome.checkpoint_policy,
        **provenance(experiment, md5s, device),
        **trained,
    }


def _scores(experiment: Experiment, estimate: Tensor, truth: Tensor) -> Iterable[dict[str, Any]]:
    for name in experiment.evaluation.protocols:
        for metric, value in score(get_protocol(name), estimate, truth).items():
            yield {"protocol": name, "metric": metric, "value": value}
