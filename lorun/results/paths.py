"""Where tables and logs of a run lie below the folder of all runs."""

from pathlib import Path

from lorun.methods import Experiment

EVALUATION = "evaluation.csv"
TRAINING_LOG = "train.log"
EVALUATION_LOG = "evaluate.log"


def account_path(runs: Path, experiment: Experiment) -> Path:
    """Where the account of a method lies; its seeds share it."""
    return runs / experiment.task / experiment.setting / experiment.method / f"accounting-{experiment.account_key}.json"
