"""Score a trained run on test images, and keep some reconstructions to look at."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lorun.code import loaded_code
from lorun.data.checksums import dataset_identity
from lorun.data.images import load_dataset, load_folder
from lorun.data.measurements import holds_measurements, load_measurements
from lorun.data.patches import in_unit_range
from lorun.errors import LorunError
from lorun.evaluation.kept import image_path, spectra_path, write_image, write_spectra
from lorun.evaluation.protocols import PROTOCOLS, Measurement, Protocol, get_protocol, score
from lorun.methods import Experiment
from lorun.physics import Operator
from lorun.provenance import code_used, provenance
from lorun.system import System, build_system
from lorun.training.outcome import Outcome, read_outcome
from lorun.training.start import WEIGHTS
from lorun.training.weights import load_state, load_weights


class Reconstruction(NamedTuple):
    """What came of an image or a measurement: estimate and truth (C, H, W), float32, on the CPU; truth is None where
    nobody knows it, degradation where the operator has none."""

    name: str
    degradation: str | None
    estimate: Tensor
    truth: Tensor | None
    measurement: Measurement

    def scores(self, protocol: Protocol) -> dict[str, float]:
        """Its metrics by name; raises as `lorun.evaluation.protocols.score`."""
        return score(protocol, self.estimate, self.truth, self.measurement, self.measurement.physics.decimation)


class Evaluation(NamedTuple):
    """What one run scored.

    Attributes:
        run: the run: labels, status, training, provenance; `trained_code` and `code` map modules to digests.
        rows: one per dataset, image, degradation, protocol and metric; none where the training did not complete.
    """

    run: dict[str, Any]
    rows: list[dict[str, Any]]


def evaluate(experiment: Experiment, *, runs: Path, data: Path, device: torch.device) -> Evaluation:
    """Score one run on the test split of its datasets.

    Keeps the reconstructions that the experiment names in its folder (`lorun.evaluation.kept`), those under the first
    degradation alone. A dataset of measurements without a truth is reconstructed from these, where others are measured
    first.

    Raises:
        LorunError: the run has not ended yet; data or weights are missing or damaged; an image is too small; a protocol
            compares with a truth that a dataset does not have.
    """
    loaded_code()  # digests are those of now, whatever is edited while this scores
    outcome = _ended(experiment, runs)
    _check_truths(experiment, data)
    md5s = {name: dataset_identity(data, name) for name in experiment.datasets}
    if outcome.status != "completed":
        return Evaluation(_run(experiment, outcome, md5s, device), [])
    system = load_system(experiment, runs).to(device)
    first = next(iter(system.physics.degradations), None)
    rows = []
    for name in experiment.test:
        for one in _reconstructions(experiment, system, data, name, device):
            rows += [{**experiment.labels, "dataset": name, **row} for row in _scores(experiment, one)]
            if one.name in experiment.evaluation.keep and one.degradation == first:
                _keep(experiment, runs / experiment.folder, name, one)
    return Evaluation(_run(experiment, outcome, md5s, device), rows)


def evaluate_folder(experiment: Experiment, folder: Path, *, runs: Path, device: torch.device) -> Evaluation:
    """As `evaluate`, on the images of any folder; the dataset of the rows is the folder's name."""
    outcome = _ended(experiment, runs)
    if outcome.status != "completed":
        raise LorunError(f"{experiment.name} is {outcome.status}: {outcome.message}")
    return score_folder(experiment, outcome, load_system(experiment, runs), folder, {}, device)


def score_folder(
    experiment: Experiment, outcome: Outcome, system: System, folder: Path, md5s: dict[str, str], device: torch.device
) -> Evaluation:
    """Score a system on the images of any folder; `md5s` as in `lorun.provenance.provenance`."""
    images = load_folder(folder, experiment.channels)
    rows = [
        {**experiment.labels, "dataset": folder.resolve().name, **row}
        for one in reconstruct(system.to(device), images, device)
        for row in _scores(experiment, one)
    ]
    return Evaluation(_run(experiment, outcome, md5s, device), rows)


def load_system(experiment: Experiment, runs: Path) -> System:
    """The trained system of a completed run, on the CPU, ready for inference."""
    path = runs / experiment.folder / WEIGHTS
    system = build_system(experiment)
    load_state(system, load_weights(path), path)
    return system.eval()


@torch.no_grad()
def reconstruct(system: System, images: Mapping[str, np.ndarray], device: torch.device) -> Iterator[Reconstruction]:
    """Measure and reconstruct each image, (C, H, W): bytes, or floats in [0, 1]; under each degradation by itself.

    An image is cropped first to what is scored of it.

    Raises:
        LorunError: an image is of a size that the operator does not measure.
    """
    for name, image in images.items():
        _check_smallest(system, f"image {name}", *image.shape[1:])
        height, width = system.physics.scored_size(*image.shape[1:])
        bound = _operator(system, f"image {name}", height, width)
        truth = in_unit_range(torch.tensor(image[:, :height, :width]))
        for degradation in bound.degradations or (None,):
            physics = bound if degradation is None else bound.under(degradation)
            y = physics(truth[None].to(device))
            yield Reconstruction(name, degradation, _estimate(system, y, physics), truth, Measurement(y, physics))


@torch.no_grad()
def reconstruct_measurements(
    system: System, measurements: Mapping[str, np.ndarray], channels: int, device: torch.device
) -> Iterator[Reconstruction]:
    """Reconstruct images of so many channels from measurements, each (C', H', W'), of which there is no truth.

    Raises:
        LorunError: a measurement is of a shape that the operator does not give, or it may be of several degradations.
    """
    if system.physics.degradations:
        degradations = ", ".join(system.physics.degradations)
        raise LorunError(f"measurements do not say under which degradation they were made. Choices: {degradations}")
    for name, values in measurements.items():
        y = torch.from_numpy(values)[None].to(device)
        size = system.physics.scene_of(*values.shape[1:])
        what = f"the image that {name} was measured of"
        _check_smallest(system, what, *size)
        physics = _operator(system, what, *size)
        given = physics.A(torch.zeros(1, channels, *size, device=device)).shape
        if y.shape != given:
            raise LorunError(
                f"measurement {name} has shape {tuple(values.shape)}, but the operator gives {tuple(given[1:])} of "
                f"{channels} channels of {size[0]} x {size[1]}"
            )
        yield Reconstruction(name, None, _estimate(system, y, physics), None, Measurement(y, physics))


def _reconstructions(
    experiment: Experiment, system: System, data: Path, name: str, device: torch.device
) -> Iterator[Reconstruction]:
    channels = experiment.channels
    if holds_measurements(data, name):
        return reconstruct_measurements(system, load_measurements(data, name, "test"), channels, device)
    return reconstruct(system, load_dataset(data, name, "test", channels), device)


def _check_smallest(system: System, what: str, height: int, width: int) -> None:
    smallest = system.physics.smallest
    if min(height, width) < smallest:
        raise LorunError(f"{what} is {height} x {width}, smaller than the {smallest} pixels that are measured together")


def _operator(system: System, what: str, height: int, width: int) -> Operator:
    try:
        return system.physics.at(height, width)
    except LorunError as error:
        raise LorunError(f"{what}: {error}") from error


def _estimate(system: System, y: Tensor, physics: Operator) -> Tensor:
    estimate: Tensor = system.network(y, physics)
    return estimate[0].float().cpu()


def _keep(experiment: Experiment, run: Path, dataset: str, one: Reconstruction) -> None:
    write_image(image_path(run, dataset, one.name), one.estimate)
    points = experiment.evaluation.points
    if points:
        write_spectra(spectra_path(run, dataset, one.name), points, one.estimate, one.truth)


def _check_truths(experiment: Experiment, data: Path) -> None:
    for name in experiment.test:
        for protocol in experiment.evaluation.protocols:
            if get_protocol(protocol).needs_truth and holds_measurements(data, name):
                choices = ", ".join(other.name for other in PROTOCOLS.values() if not other.needs_truth)
                raise LorunError(
                    f"{experiment.task}: the protocol {protocol!r} compares with a truth, and {name!r} holds "
                    f"measurements alone. Choices: {choices}"
                )


def _ended(experiment: Experiment, runs: Path) -> Outcome:
    outcome = read_outcome(runs / experiment.folder)
    if outcome is None:
        raise LorunError(f"{experiment.name} is not trained ({runs / experiment.folder}): run `lorun train` first")
    return outcome


def _run(experiment: Experiment, outcome: Outcome, md5s: dict[str, str], device: torch.device) -> dict[str, Any]:
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
        "trained_code": outcome.code,
        "code": code_used(experiment, md5s),
    }


def _scores(experiment: Experiment, one: Reconstruction) -> Iterable[dict[str, Any]]:
    for name in experiment.evaluation.protocols:
        for metric, value in one.scores(get_protocol(name)).items():
            yield {
                "image": one.name,
                "degradation": one.degradation,
                "protocol": name,
                "metric": metric,
                "value": value,
            }
