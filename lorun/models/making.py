"""Make a model of a finished run, and compare the scores of a model with those that are committed."""

import math
from pathlib import Path
from typing import NamedTuple

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
from lorun.results.store import RUN, read_evaluation, read_result_set
from lorun.system import System
from lorun.training.outcome import read_outcome


class Made(NamedTuple):
    """A model, and why it is not in half precision where that was asked; None where it is, or was not asked."""

    model: Model
    refused: str | None


def make_model(
    experiment: Experiment,
    *,
    runs: Path,
    results: Path | None = None,
    data: Path | None = None,
    half: bool = False,
    tolerance: float = 0.01,
    device: torch.device,
) -> Made:
    """The model of a finished run, with its scores.

    Args:
        runs: the folder of all runs.
        results: a result set with the scores of the run; those that `lorun evaluate` left in its folder are second.
        data: the folder of all datasets, to check half precision.
        half: round the network to half precision, if a score stays within the tolerance. The score is the first metric
            of the first protocol, on the test set with the fewest images.
        tolerance: dB.

    Raises:
        LorunError: the run is not finished, did not complete, or cannot be a model; a file is damaged.
    """
    folder = runs / experiment.folder
    outcome = read_outcome(folder)
    if outcome is None:
        raise LorunError(f"{experiment.name} is not trained ({folder}): run `lorun train` first")
    if outcome.status != "completed":
        raise LorunError(f"{experiment.name} is {outcome.status}: {outcome.message}")
    rows = committed_rows(experiment, runs, results)
    description = described(experiment, outcome).model_copy(update={"scores": means(rows)})
    model = Model(load_system(experiment, runs), description)
    if not half:
        return Made(model, None)
    if rows.empty:
        return Made(model, f"{experiment.name} has no scores to check half precision with: run `lorun evaluate` first")
    return _halved(model, rows, data or Path("data"), tolerance, device)


def _halved(model: Model, rows: pd.DataFrame, data: Path, tolerance: float, device: torch.device) -> Made:
    """A model in half precision, if the score changes by no more than the tolerance; `rows` are those of its run."""
    rounded = model.rounded()
    dataset = str(rows.groupby("dataset", sort=False).size().idxmin())
    protocol = model.experiment.evaluation.protocols[0]
    metric = get_protocol(protocol).metrics[0]
    full, half = (
        next(score.value for score in means(found) if score.place == (dataset, protocol, metric))
        for found in (rows, score_model(rounded, dataset, data, device))
    )
    lost = abs(20 * math.log10(half / full) if metric == "residual" else half - full)  # of a residual, its norm's
    if not lost <= tolerance:
        return Made(model, f"half precision changes {metric} on {dataset} by {lost:.4f} dB, more than {tolerance:g}")
    check = Check(dataset=dataset, protocol=protocol, metric=metric, full=full, half=half)
    rounded.description = rounded.description.model_copy(update={"check": check})
    return Made(rounded, None)


def committed_rows(experiment: Experiment, runs: Path, results: Path | None) -> pd.DataFrame:
    """The rows of a run: in a result set that has this very run, else in its folder; empty where there are none."""
    if results is not None and (results / "rows.csv").is_file():
        found = read_result_set(results)
        if experiment.key in set(found.runs["run"]):
            labels = experiment.labels
            mine = (found.rows[list(RUN)] == [labels[name] for name in RUN]).all(axis=1)
            if mine.any():
                return found.rows[mine]
    path = runs / experiment.folder / EVALUATION
    return read_evaluation(path)[1] if path.is_file() else pd.DataFrame()


def means(rows: pd.DataFrame) -> list[Score]:
    """The mean of each metric on each test set, over images and degradations."""
    groups = () if rows.empty else rows.groupby(["dataset", "protocol", "metric"], sort=False)
    return [
        Score(dataset=dataset, protocol=protocol, metric=metric, value=part.value.mean(), images=part.image.nunique())
        for (dataset, protocol, metric), part in groups
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
        raise LorunError(f"{model.experiment.name}: the model was saved without scores")
    chosen = one_of("test set", dataset or min(sizes, key=lambda name: sizes[name]), sizes)
    committed = {one.place: one.value for one in model.description.scores if one.dataset == chosen}
    here = {one.place: one.value for one in means(score_model(model, chosen, data, device))}
    return [(*place, value, here[place], here[place] - value) for place, value in committed.items()]
