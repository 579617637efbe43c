"""Make a model of a finished run, and compare the scores of a model with those that are committed."""

import math
from pathlib import Path

import pandas as pd
import torch

from lorun.data.images import load_dataset
from lorun.data.measurements import holds_measurements, load_measurements
from lorun.errors import LorunError, one_of
from lorun.evaluation.protocols import get_protocol
from lorun.evaluation.reconstruct import load_system, reconstruct, reconstruct_measurements
from lorun.methods import Experiment
from lorun.models.description import Check, Score, described
from lorun.models.model import Model
from lorun.results.paths import EVALUATION
from lorun.results.store import read_evaluation
from lorun.system import System
from lorun.training.outcome import read_outcome

HALF_TOLERANCE = 0.01
"""Largest change of a score by half precision, dB."""


def make_model(experiment: Experiment, *, runs: Path) -> Model:
    """The model of a finished run, with the scores that `lorun evaluate` left there. `runs` is the folder of all runs.

    Raises:
        LorunError: the run is not finished, did not complete, or cannot be a model; a file is damaged.
    """
    folder = runs / experiment.folder
    outcome = read_outcome(folder)
    if outcome is None:
        raise LorunError(f"{experiment.name} is not trained ({folder}): run `lorun train` first")
    if outcome.status != "completed":
        raise LorunError(f"{experiment.name} is {outcome.status}: {outcome.message}")
    table = folder / EVALUATION
    scores = means(read_evaluation(table)[1]) if table.is_file() else []
    description = described(experiment, outcome).model_copy(update={"scores": scores})
    return Model(load_system(experiment, runs), description)


def halved(model: Model, data: Path, device: torch.device) -> Model:
    """A model in half precision. Its first score, on the test set with the fewest images, is computed again.

    Raises:
        LorunError: the score changes by more than `HALF_TOLERANCE`; as `compare_scores`.
    """
    rounded = model.rounded()
    dataset, protocol, metric, full, half, difference = compare_scores(rounded, None, data, device)[0]
    lost = abs(20 * math.log10(half / full) if metric == "residual" else difference)  # of a residual, its norm's
    if not lost <= HALF_TOLERANCE:
        raise LorunError(
            f"half precision changes {metric} on {dataset} by {lost:.4f} dB, more than {HALF_TOLERANCE:g}: "
            "leave out --half"
        )
    check = Check(dataset=dataset, protocol=protocol, metric=metric, full=full, half=half)
    rounded.description = rounded.description.model_copy(update={"check": check})
    return rounded


def means(rows: pd.DataFrame) -> list[Score]:
    """The mean of each metric on each test set, over images and degradations."""
    return [
        Score(dataset=dataset, protocol=protocol, metric=metric, value=part.value.mean(), images=part.image.nunique())
        for (dataset, protocol, metric), part in rows.groupby(["dataset", "protocol", "metric"], sort=False)
    ]


def score_model(model: Model, dataset: str, data: Path, device: torch.device) -> pd.DataFrame:
    """Score a model on the test split of a dataset, by the protocols of its experiment: a row per image, degradation,
    protocol and metric, as `lorun evaluate` gives.

    Raises:
        LorunError: data, or files of the operator, are missing or damaged.
    """
    system, channels = System(model.network, model.trained_operator()).to(device), model.experiment.channels
    if holds_measurements(data, dataset):
        measured = load_measurements(data, dataset, "test")
        results = reconstruct_measurements(system, measured, channels, device)
    else:
        results = reconstruct(system, load_dataset(data, dataset, "test", channels), device)
    return pd.DataFrame(
        [
            (dataset, result.name, result.degradation, protocol, metric, value)
            for result in results
            for protocol in model.experiment.evaluation.protocols
            for metric, value in result.scores(get_protocol(protocol)).items()
        ],
        columns=["dataset", "image", "degradation", "protocol", "metric", "value"],
    )


def compare_scores(
    model: Model, dataset: str | None, data: Path, device: torch.device
) -> list[tuple[str, str, str, float, float, float]]:
    """The committed scores of a model on a test set, beside those of its weights here: test set, protocol, metric,
    committed, here, difference. By default on the test set with the fewest images.

    Raises:
        UnknownName: the model has no scores on that test set.
        LorunError: it has no scores at all; data are missing or damaged.
    """
    sizes = {score.dataset: score.images for score in model.description.scores}
    if not sizes:
        raise LorunError(f"{model.experiment.name} has no scores: `lorun evaluate` makes them before it is saved")
    chosen = one_of("test set", dataset or min(sizes, key=lambda name: sizes[name]), sizes)
    committed = {one.place: one.value for one in model.description.scores if one.dataset == chosen}
    here = {one.place: one.value for one in means(score_model(model, chosen, data, device))}
    return [(*place, value, here[place], here[place] - value) for place, value in committed.items()]
