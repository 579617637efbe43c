"""The curve of a training, as trackers see it."""

import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lorun.errors import LorunError, UnknownName
from lorun.profiles import Profile
from lorun.training import Outcome, train

CPU = torch.device("cpu")


@pytest.fixture
def followed(tiny_profile: Profile, tiny_data: Path, tmp_path: Path):
    """Train with a tracker; return the folder of the run and the outcome."""

    def followed(tracker: str) -> tuple[Path, Outcome]:
        experiment = tiny_profile.experiment("cs", "r25", "block_k", 0)
        outcome = train(experiment, runs=tmp_path, data=tiny_data, device=CPU, tracker=tracker)
        return tmp_path / experiment.folder, outcome

    return followed


def test_tensorboard_gets_the_curve(followed) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, outcome = followed("tensorboard")
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    for name in ("loss", "validation_psnr", "learning_rate"):
        assert [one.step for one in events.Scalars(name)] == [point.step for point in outcome.curve]
        written = [one.value for one in events.Scalars(name)]
        assert written == pytest.approx([getattr(point, name) for point in outcome.curve], rel=1e-6)


@pytest.mark.parametrize("tracker", ["mlflow", "wandb"])
def test_others_get_the_curve_and_what_the_run_is(
    followed, tiny_profile: Profile, monkeypatch: pytest.MonkeyPatch, tracker: str
) -> None:
    """Stand-ins of their packages have the functions that are called."""
    points, about = {}, {}

    @contextmanager
    def start(**options):
        about.update(options.pop("config", {}), **options)
        yield SimpleNamespace(log=lambda values, step: points.update({step: values}))

    functions = {
        "set_experiment": lambda name: about.update(project=name),
        "start_run": start,
        "log_params": about.update,
        "log_metrics": lambda values, step: points.update({step: values}),
        "init": start,
    }
    monkeypatch.setitem(sys.modules, tracker, SimpleNamespace(**functions))
    _, outcome = followed(tracker)
    assert points == {
        point.step: {"loss": point.loss, "validation_psnr": point.validation_psnr, "learning_rate": point.learning_rate}
        for point in outcome.curve
    }
    experiment = tiny_profile.experiment("cs", "r25", "block_k", 0)
    assert about["project"] == "lorun"
    assert {name: about[name] for name in ("method", "seed", "run")} == {
        "method": "block_k",
        "seed": 0,
        "run": experiment.key,
    }


def test_mistakes_are_told(followed, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName, match="unknown tracker 'tensorbord'. Did you mean 'tensorboard'"):
        followed("tensorbord")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(LorunError, match="the tracker wandb needs a package: pip install wandb"):
        followed("wandb")
