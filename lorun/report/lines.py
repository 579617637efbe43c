"""Where the numbers of a line of the summary come from: its rows, run by run, and the commands that give them again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from lorun.errors import LorunError
from lorun.methods import Experiment
from lorun.profiles import Profile
from lorun.report.stored import Stored
from lorun.results.rows import plain

Key = tuple[str, str, str, str, str]
"""Task, dataset, setting, protocol, method."""

_WHICH = ["task", "dataset", "setting", "protocol", "method"]

# What all rows of a run have in common.
_SHARED = (
    *("config_hash", "run", "trained_commit", "trained_dirty", "trained_device", "trained_threads"),
    *("commit", "dirty", "device", "threads", "python", "versions", "data_md5"),
    *("steps", "scored_step", "checkpoint_policy"),
)

_COUNTED = ("config_hash", "run", "commit", "dirty", "device", "threads", "python", "versions")


class Lines:
    """The lines of a result set, numbered, as the page holds them."""

    def __init__(self, profile: Profile, config: Path, stored: Stored) -> None:
        self._profile = profile
        self._config = config
        self._counts = {
            (row["task"], row["setting"], row["method"]): row for row in stored.accounting.to_dict("records")
        }
        groups = list(stored.rows.groupby(_WHICH, sort=False))
        self._numbers: dict[Key, int] = {_key(key): number for number, (key, _) in enumerate(groups)}
        self.records: list[dict[str, Any]] = [self._record(_key(key), of) for key, of in groups]

    def number(self, row: Any) -> int | None:
        """The number of the line that a row of any table is of, None where the result set has no rows of it."""
        return self._numbers.get(_key([row[name] for name in _WHICH]))

    def _record(self, key: Key, of: pd.DataFrame) -> dict[str, Any]:
        task, dataset, setting, protocol, method = key
        counted = self._counts.get((task, setting, method))
        return {
            "title": f"{method}: {task}, {dataset}, {setting}, {protocol}",
            "metrics": list(of.metric.unique()),
            "degradations": bool(of.degradation.notna().any()),
            "runs": [self._run(key, int(str(seed)), rows) for seed, rows in of.groupby("seed", sort=False)],
            "counted": None
            if counted is None
            else {
                **{name: plain(counted.get(name)) for name in _COUNTED},
                "commands": [*_checkout(counted.get("commit")), self._command("account", task, setting, method)],
            },
        }

    def _run(self, key: Key, seed: int, rows: pd.DataFrame) -> dict[str, Any]:
        task, _, setting, _, method = key
        first = rows.iloc[0]
        experiment = self._experiment(task, setting, method, seed)
        scores: dict[tuple[Any, Any], dict[str, Any]] = {}
        for row in rows.dropna(subset="image").itertuples():  # what has no result has a row without an image
            scores.setdefault((row.image, plain(row.degradation)), {})[str(row.metric)] = plain(row.value)
        return {
            "seed": seed,
            "status": first.status,
            "message": plain(first.message),
            **{name: plain(first[name]) for name in _SHARED},
            "weights": None if experiment is None or experiment.weights is None else str(experiment.weights),
            "folder": f"runs/{task}/{setting}/{method}/seed{seed}-{first.run}",
            "note": self._note(experiment, first),
            "commands": list(self._commands(experiment, key, seed, first)),
            "scores": [[image, degradation, values] for (image, degradation), values in scores.items()],
        }

    def _experiment(self, task: str, setting: str, method: str, seed: int) -> Experiment | None:
        try:
            return self._profile.experiment(task, setting, method, seed)
        except LorunError:  # a row of an older profile; the page says so
            return None

    def _note(self, experiment: Experiment | None, row: pd.Series) -> str | None:
        """What the profile of today says otherwise than that of the row."""
        if experiment is None:
            return f"{self._config} no longer has this method here: take it from the row's commit."
        if experiment.config_hash != row.config_hash:
            now = f"today {experiment.config_hash}, of the row {row.config_hash}"
            return f"{self._config} has changed since: the configuration's hash is {now}."
        return None

    def _commands(self, experiment: Experiment | None, key: Key, seed: int, row: pd.Series) -> Iterator[str]:
        """What to type in a clone to get the row again: its code, its data, its training, its scores."""
        task, _, setting, _, method = key
        trained = row.trained_commit if pd.notna(row.trained_commit) else row.commit
        yield from _checkout(trained)
        if experiment is not None:
            yield f".venv/bin/lorun data fetch {' '.join(experiment.datasets)}"
            if method in PRETRAINED:
                base = experiment.base
                yield self._command("train", base.task, base.setting, base.method, seed)
        yield self._command("train", task, setting, method, seed)
        if pd.notna(row.commit) and row.commit != trained:
            yield from _checkout(row.commit)
        yield self._command("evaluate", task, setting, method, seed)

    def _command(self, what: str, task: str, setting: str, method: str, seed: int | None = None) -> str:
        of = f"--config {self._config} --task {task} --setting {setting} --method {method}"
        return f".venv/bin/lorun {what} {of}" + ("" if seed is None else f" --seed {seed}")


def _checkout(commit: Any) -> list[str]:
    return [f"git checkout {commit} && make setup"] if pd.notna(commit) else []


def _key(values: Any) -> Key:
    task, dataset, setting, protocol, method = map(str, values)
    return task, dataset, setting, protocol, method
