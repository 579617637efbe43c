"""The runs behind a result, and where their tables and logs lie below the folder of all runs."""

from collections.abc import Iterator
from pathlib import Path

from lorun.methods import Experiment

EVALUATION = "evaluation.csv"
TRAINING_LOG = "train.log"
EVALUATION_LOG = "evaluate.log"


def with_bases(experiment: Experiment) -> Iterator[Experiment]:
    """An experiment after those whose weights it starts from."""
    if experiment.base is not None:
        yield from with_bases(experiment.base)
    yield experiment


def account_path(runs: Path, experiment: Experiment) -> Path:
    """Where the account of a method lies; its seeds share it."""
    return runs / experiment.task / experiment.setting / experiment.method / f"accounting-{experiment.account_key}.json"
