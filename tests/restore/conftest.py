"""Models without training: the baselines that compute a reconstruction in closed form."""

from collections.abc import Callable
from typing import Any

import pytest

from lorun.config import EvaluationConfig
from lorun.methods import Experiment, Untrained
from lorun.models import Model
from lorun.models.description import described
from lorun.system import build_system
from lorun.training.outcome import Outcome


@pytest.fixture
def model() -> Callable[..., Model]:
    """A model of a baseline: model("tikhonov", channels=3, name="blur_downsample", scale=2)."""

    def model(baseline: str, channels: int = 1, **physics: Any) -> Model:
        experiment = Experiment(
            task="task",
            setting="setting",
            seed=0,
            channels=channels,
            physics=physics,
            spec=Untrained(name=baseline, reference=baseline),
            test=[],
            evaluation=EvaluationConfig(protocols=["measurement_residual"]),
        )
        outcome = Outcome(status="completed", provenance={})
        return Model(build_system(experiment), described(experiment, outcome)).eval()

    return model
