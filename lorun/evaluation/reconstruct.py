"""Reconstruct test images with a trained system, score them, and keep some of them for viewing."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lorun.accounting.live_bytes import LiveBytes
from lorun.code import loaded_code
from lorun.data.checksums import dataset_identity
from lorun.data.images import load_dataset, load_folder
from lorun.data.listing import check_cells
from lorun.data.measurements import holds_measurements, load_measurements
from lorun.errors import LorunError
from lorun.evaluation.kept import image_path, spectra_path, write_image, write_spectra
from lorun.evaluation.protocols import PROTOCOLS, Measurement, Protocol, get_protocol, score
from lorun.memory import refuse_too_large
from lorun.methods import Experiment
from lorun.physics import Operator
from lorun.provenance import code_used, provenance
from lorun.system import System, build_system
from lorun.training.outcome import WEIGHTS, Outcome, check_files, read_outcome
from lorun.training.patches import in_unit_range
from lorun.training.weights import load_state, load_weights

_LARGE = 2**24  # values: smaller images are not asked whether they fit into memory
_PART = 256  # pixels, side of the part whose memory is counted
_SCORING = 180  # bytes for each value, of the metrics


class Reconstruction(NamedTuple):
    """One reconstructed image, float32 on the CPU.

    Attributes:
        name: of the image or measurement.
        degradation: that the image was measured under; None if the operator has none.
        estimate: (C, H, W), not clipped.
        truth: (C, H, W) in [0, 1]; None for a measurement without ground truth.
        measurement: that the estimate was computed from.
    """

    name: str
    degradation: str | None
    estimate: Tensor
    truth: Tensor | None
    measurement: Measurement

    def scores(self, protocol: Protocol) -> dict[str, float]:
        """The metrics of a protocol by name. Raises LorunError as `lorun.evaluation.protocols.score` does."""
        return score(protocol, self.estimate, self.truth, self.measurement, self.measurement.physics.decimation)


class Evaluation(NamedTuple):
    """The scores of one run.

    Attributes:
        run: labels, status, training, provenance; `trained_code` and `code` map modules to digests.
        rows: one per dataset, image, degradation, protocol and metric; empty if the training did not complete.
    """

    run: dict[str, Any]
    rows: list[dict[str, Any]]


def evaluate(experiment: Experiment, *, runs: Path, data: Path, device: torch.device) -> Evaluation:
    """Score one run on the test split of its datasets.

    Images are measured first; datasets of measurements are reconstructed directly. The reconstructions that
    `evaluation.keep` names are written to the folder of the run, for the first degradation only.

    Raises:
        LorunError: the run has not ended yet; data or weights are missing or damaged; an image is too small; a protocol
            needs a ground truth that a dataset does not have.
    """
    loaded_code()  # digests are those of now, whatever is edited while this scores
    outcome = _ended(experiment, runs)
    _check_truths(experiment, data)
    md5s = {name: dataset_identity(data, name) for name in experiment.datasets}
    if outcome.status != "completed":
        return Evaluation(_run(experiment, outcome, md5s, device), [])
    system = load_system(experiment, runs).to(device)
    first = next(iter(system.physics.degradations), None)
    rows: list[dict[str, Any]] = []
    for dataset in experiment.test:
        for result in _reconstructions(experiment, system, data, dataset, device):
            rows += _rows(experiment, dataset, result)
            if result.name in experiment.evaluation.keep and result.degradation == first:
                _keep(runs / experiment.folder, dataset, result, experiment.evaluation.points)
    return Evaluation(_run(experiment, outcome, md5s, device), rows)


def evaluate_folder(experiment: Experiment, folder: Path, *, runs: Path, device: torch.device) -> Evaluation:
    """Score one run on the images of any folder, whose name is the dataset of the rows. Raises as `evaluate` does."""
    outcome = _ended(experiment, runs)
    if outcome.status != "completed":
        raise LorunError(f"{experiment.name} is {outcome.status}: {outcome.message}")
    return score_folder(experiment, outcome, load_system(experiment, runs), folder, {}, device)


def score_folder(
    experiment: Experiment, outcome: Outcome, system: System, folder: Path, md5s: dict[str, str], device: torch.device
) -> Evaluation:
    """Score a system on the images of any folder; `md5s` as in `lorun.provenance.provenance`."""
    check_cells([folder.resolve().name])
    results = reconstruct(system.to(device), load_folder(folder, experiment.channels), device)
    rows = [row for result in results for row in _rows(experiment, folder.resolve().name, result)]
    return Evaluation(_run(experiment, outcome, md5s, device), rows)


def load_system(experiment: Experiment, runs: Path) -> System:
    """The trained system of a completed run, on the CPU, ready for inference.

    Raises:
        LorunError: the run has not ended yet; its weights are missing or damaged.
    """
    check_files(runs / experiment.folder, _ended(experiment, runs))
    path = runs / experiment.folder / WEIGHTS
    system = build_system(experiment)
    load_state(system, load_weights(path), path)
    return system.eval()


@torch.no_grad()
def reconstruct(system: System, images: Mapping[str, np.ndarray], device: torch.device) -> Iterator[Reconstruction]:
    """Crop each image to its scored size, measure it under each degradation, and reconstruct it.

    Images are (C, H, W): bytes, or floats in [0, 1].

    Raises:
        LorunError: the operator cannot measure images of that size, a large one needs more memory than is free, or an
            image has a name that tables cannot hold.
    """
    check_cells(images)
    for name, image in images.items():
        height, width = system.physics.scored_size(*image.shape[1:])
        bound = _operator(system, f"image {name}", (height, width), uncropped=image.shape[1:])
        _refuse_too_large(system, f"image {name}", image, device)
        truth = in_unit_range(torch.tensor(image[:, :height, :width]))
        for degradation in bound.degradations or (None,):
            physics = bound if degradation is None else bound.under(degradation)
            y = physics(truth[None].to(device))
            yield Reconstruction(name, degradation, _estimate(system, y, physics), truth, Measurement(y, physics))


@torch.no_grad()
def reconstruct_measurements(
    system: System, measurements: Mapping[str, np.ndarray], channels: int, device: torch.device
) -> Iterator[Reconstruction]:
    """Reconstruct images of `channels` channels from measurements (C', H', W') without ground truth.

    Raises:
        LorunError: the operator does not give measurements of that shape, or it has several degradations.
    """
    check_cells(measurements)
    if system.physics.degradations:
        degradations = ", ".join(system.physics.degradations)
        raise LorunError(f"measurements do not say under which degradation they were made. Choices: {degradations}")
    for name, values in measurements.items():
        y = torch.from_numpy(values)[None].to(device)
        size = system.physics.scene_of(*values.shape[1:])
        physics = _operator(system, f"the scene of measurement {name}", size, uncropped=size)
        expected = physics.A(torch.zeros(1, channels, *size, device=device)).shape
        if y.shape != expected:
            raise LorunError(
                f"measurement {name} has shape {tuple(values.shape)}, but the operator gives {tuple(expected[1:])} for "
                f"images of {channels} channels of {size[0]} x {size[1]}"
            )
        yield Reconstruction(name, None, _estimate(system, y, physics), None, Measurement(y, physics))


def _reconstructions(
    experiment: Experiment, system: System, data: Path, dataset: str, device: torch.device
) -> Iterator[Reconstruction]:
    channels = experiment.channels
    if holds_measurements(data, dataset):
        return reconstruct_measurements(system, load_measurements(data, dataset, "test"), channels, device)
    return reconstruct(system, load_dataset(data, dataset, "test", channels), device)


def _refuse_too_large(system: System, what: str, image: np.ndarray, device: torch.device) -> None:
    """Raise LorunError where a large image needs more memory than is free, by what a part of it needs."""
    if image.size < _LARGE:
        return
    size = system.physics.scored_size(*(min(_PART, side) for side in image.shape[1:]))
    physics = system.physics.at(*size)
    y = physics.A(torch.zeros(1, len(image), *size, device=device))
    with LiveBytes() as live:
        system.network(y, physics)
    values = len(image) * size[0] * size[1]
    need = image.size * (live.peak.total // values + _SCORING)
    refuse_too_large(f"{what} of {image.shape[1]} x {image.shape[2]} pixels, measured as a whole,", need)


def _operator(system: System, what: str, size: tuple[int, int], uncropped: tuple[int, ...]) -> Operator:
    smallest = system.physics.smallest
    if min(uncropped) < smallest:
        height, width = uncropped
        raise LorunError(f"{what} is {height} x {width}, smaller than the {smallest} pixels that are measured together")
    try:
        return system.physics.at(*size)
    except LorunError as error:
        raise LorunError(f"{what}: {error}") from error


def _estimate(system: System, y: Tensor, physics: Operator) -> Tensor:
    estimate: Tensor = system.network(y, physics)
    return estimate[0].float().cpu()


def _keep(run: Path, dataset: str, result: Reconstruction, points: Sequence[tuple[int, int]]) -> None:
    write_image(image_path(run, dataset, result.name), result.estimate)
    if points:
        write_spectra(spectra_path(run, dataset, result.name), points, result.estimate, result.truth)


def _check_truths(experiment: Experiment, data: Path) -> None:
    captures = next((name for name in experiment.test if holds_measurements(data, name)), None)
    protocol = next((name for name in experiment.evaluation.protocols if get_protocol(name).needs_truth), None)
    if captures is not None and protocol is not None:
        choices = ", ".join(other.name for other in PROTOCOLS.values() if not other.needs_truth)
        raise LorunError(
            f"{experiment.task}: the protocol {protocol!r} needs a ground truth, and {captures!r} holds only "
            f"measurements. Choices: {choices}"
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
        "training_flops": outcome.training_flops,
        "precision": outcome.precision,
        **provenance(experiment, md5s, device),
        **trained,
        "trained_code": outcome.code,
        "code": code_used(experiment, md5s),
    }


def _rows(experiment: Experiment, dataset: str, result: Reconstruction) -> Iterator[dict[str, Any]]:
    common = {**experiment.labels, "dataset": dataset, "image": result.name, "degradation": result.degradation}
    for protocol in experiment.evaluation.protocols:
        for metric, value in result.scores(get_protocol(protocol)).items():
            yield {**common, "protocol": protocol, "metric": metric, "value": value}
