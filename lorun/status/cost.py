"""What it would take to bring a result set up to date, estimated from its own tables."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pandas as pd

from lorun.config import PRETRAINED, Experiment, Profile
from lorun.errors import LorunError
from lorun.status.judge import Judged

_FLOAT = 4  # bytes


@dataclass(frozen=True)
class Cost:
    """Of one run or account.

    hours          on the machine of the tables; None where they tell nothing of it
    guessed        the hours are those of others, by operations a step, not its own
    stored_bytes   weights, in float32
    passing_bytes  the checkpoint while it trains: weights, and two more floats for each trainable parameter
    step_bytes     alive in one training step, counted
    """

    hours: float | None = 0.0
    guessed: bool = False
    stored_bytes: int = 0
    passing_bytes: int = 0
    step_bytes: int = 0


class Costs:
    """The costs of a result set by what its timing.csv and accounting.csv say.

    Raises:
        LorunError: a table cannot be read.
    """

    def __init__(self, folder: Path, profile: Profile) -> None:
        self.profile = profile
        timing, self.accounts = _read(folder / "timing.csv"), _read(folder / "accounting.csv")
        trained = timing[timing["what"] == "training"]
        self.seconds = {
            (str(row.task), str(row.setting), str(row.method), int(row.seed)): float(row.seconds)
            for _, row in trained.dropna(subset="seconds").iterrows()
        }
        latency = timing[timing["what"] == "reconstruction latency"].reindex(columns=[*timing.columns, "median_ms"])
        self.latency = {
            (str(row.task), str(row.setting), str(row.method)): float(row.median_ms) / 1e3
            for _, row in latency.loc[:, ~latency.columns.duplicated()].dropna(subset="median_ms").iterrows()
        }
        self.images = _images(folder)

    def of(self, judged: Judged) -> Cost:
        """What its steps would take. The phase 1 of LoRun comes on top: see `pretraining`."""
        if not judged.steps or judged.seed is None:
            return Cost()  # an account takes seconds
        experiment = self.profile.experiment(judged.task, judged.setting, judged.method, judged.seed)
        scoring = self._evaluation(experiment)
        if "train" not in judged.steps:
            return Cost(hours=None if scoring is None else scoring / 3600)
        seconds, guessed = self._training(experiment)
        total, trainable, step = self._sizes(experiment)
        hours = None if seconds is None else (seconds + (scoring or 0.0)) / 3600
        return Cost(hours, guessed, _FLOAT * total, _FLOAT * (total + 2 * trainable), step)

    def pretraining(self, experiment: Experiment) -> Cost:
        """Phase 1, which no table has: as many operations as a stage of the network that was trained from it."""
        if experiment.method not in PRETRAINED:
            return Cost()
        rate, account = self._rate(experiment.task), self._account(experiment)
        if rate is None or account is None:
            return Cost(hours=None)
        size = experiment.pretraining.training
        flops = account.flops / experiment.stages * size.batch * size.patch**2 / account.image**2
        base = int(account.parameters_base)
        total = int(account.parameters_operator) + base
        hours = rate * flops * experiment.pretraining.last_step / 3600
        return Cost(hours, True, _FLOAT * total, _FLOAT * (total + 2 * base))

    def _training(self, experiment: Experiment) -> tuple[float | None, bool]:
        which = (experiment.task, experiment.setting, experiment.method)
        if experiment.weights is not None:
            return 0.0, False
        if (*which, experiment.seed) in self.seconds:
            return self.seconds[*which, experiment.seed], False
        others = [seconds for key, seconds in self.seconds.items() if key[:3] == which]
        if others:
            return median(others), True
        operations, rate = self._operations(experiment), self._rate(experiment.task)
        return (None if operations is None or rate is None else rate * operations), True

    def _rate(self, task: str) -> float | None:
        """Seconds for an operation of a training step, median over the trainings of a task."""
        rates = []
        for key, seconds in self.seconds.items():
            try:
                operations = self._operations(self.profile.experiment(*key))
            except LorunError:  # no longer in the profile
                continue
            if key[0] == task and operations:
                rates.append(seconds / operations)
        return median(rates) if rates else None

    def _operations(self, experiment: Experiment) -> float | None:
        """FLOPs of the reconstructions in all steps of a training."""
        account = self._account(experiment)
        if account is None or pd.isna(account.flops):
            return None
        if not account.parameters_trainable:
            return 0.0
        size = experiment.training
        steps = experiment.last_step - experiment.first_step
        return float(account.flops) * steps * size.batch * size.patch**2 / float(account.image) ** 2

    def _evaluation(self, experiment: Experiment) -> float | None:
        """Seconds for the reconstructions, each as long as that of the account's image."""
        latency = self.latency.get((experiment.task, experiment.setting, experiment.method))
        images = sum(self.images.get(name, 0) for name in experiment.data.test)
        if latency is None or not images:
            return None
        return latency * images * max(1, len(experiment.physics.conditions))

    def _sizes(self, experiment: Experiment) -> tuple[int, int, int]:
        account = self._account(experiment)
        if account is None:
            return 0, 0, 0
        step = 0 if pd.isna(account.step_total) else int(account.step_total)
        return int(account.parameters_total), int(account.parameters_trainable), step

    def _account(self, experiment: Experiment) -> pd.Series | None:
        of = self.accounts
        found = of[(of.task == experiment.task) & (of.setting == experiment.setting) & (of.method == experiment.method)]
        return None if found.empty else found.iloc[0]


def _images(folder: Path) -> dict[str, int]:
    rows = _read(folder / "rows.csv")
    return {str(name): int(count) for name, count in rows.groupby("dataset").image.nunique().items()}


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except pd.errors.EmptyDataError:
        return pd.DataFrame(columns=["task", "setting", "method", "what", "seconds"])
    except (OSError, ValueError) as error:
        raise LorunError(f"{path}: not a readable table ({error})") from error
