"""Follow trainings in TensorBoard, MLflow, or Weights & Biases: the points of the training curve, as they come."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from lorun.errors import LorunError, one_of
from lorun.methods import Experiment

Report = Callable[[int, Mapping[str, float]], object]
"""report(step, values)"""

PROJECT = "lorun"
"""What MLflow calls the experiment, and Weights & Biases the project."""


@contextmanager
def tracked(tracker: str | None, experiment: Experiment, folder: Path) -> Iterator[Report]:
    """The function that reports the values of a step to a tracker; one that does nothing where it is None.

    A training that resumes goes on in the same folder of TensorBoard, `FOLDER/tensorboard`, and in the same run of
    Weights & Biases; MLflow shows it as a new run.

    Raises:
        UnknownName: not one of `TRACKERS`.
        LorunError: its package is not installed.
    """
    if tracker is None:
        yield lambda step, values: None
        return
    package, follow = TRACKERS[one_of("tracker", tracker, TRACKERS)]
    try:
        module = import_module(package)
    except ModuleNotFoundError as error:
        raise LorunError(f"the tracker {tracker} needs a package: pip install {tracker} ({error})") from error
    with contextmanager(follow)(module, experiment, folder) as report:
        yield report


def _tensorboard(module: Any, experiment: Experiment, folder: Path) -> Iterator[Report]:
    with module.SummaryWriter(str(folder / "tensorboard")) as writer:

        def report(step: int, values: Mapping[str, float]) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        yield report


def _mlflow(module: Any, experiment: Experiment, folder: Path) -> Iterator[Report]:
    module.set_experiment(PROJECT)
    with module.start_run(run_name=experiment.name):
        module.log_params({**experiment.labels, "run": experiment.key})
        yield lambda step, values: module.log_metrics(dict(values), step=step)


def _wandb(module: Any, experiment: Experiment, folder: Path) -> Iterator[Report]:
    config = {**experiment.labels, "run": experiment.key}
    with module.init(project=PROJECT, name=experiment.name, id=experiment.key, resume="allow", config=config) as run:
        yield lambda step, values: run.log(dict(values), step=step)


TRACKERS: Mapping[str, tuple[str, Callable[[Any, Experiment, Path], Iterator[Report]]]] = {
    "tensorboard": ("torch.utils.tensorboard", _tensorboard),
    "mlflow": ("mlflow", _mlflow),
    "wandb": ("wandb", _wandb),
}
"""Name -> the module that is imported, and how it is used."""
