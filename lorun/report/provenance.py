"""Where the numbers of a line of the summary come from: its runs, its scores, and the commands that reproduce them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from lorun.errors import LorunError
from lorun.methods import Experiment, Released
from lorun.profiles import Profile
from lorun.results.paths import with_bases
from lorun.results.store import LINE, METHOD, ResultSet, grouped, plain, records

_COUNTED = ("config_hash", "run", "commit", "dirty", "device", "threads", "python", "versions")


class Provenance:
    """The lines of the summary, numbered; `lines` is what the page's scripts get."""

    def __init__(self, profile: Profile, config: Path, results: ResultSet) -> None:
        self._profile = profile
        self._config = config
        self._runs = {key: records(runs) for key, runs in grouped(results.runs, METHOD).items()}
        self._accounts = {tuple(account[name] for name in METHOD): account for account in records(results.accounting)}
        self._scores = grouped(results.rows, (*LINE, "seed"))
        self._numbers = {_key(row): number for number, row in enumerate(records(results.summary))}
        self.lines = [self._line(*key) for key in self._numbers]

    def number(self, row: Any) -> int | None:
        """The number of the line that a row of any table belongs to; None if the summary has no such line."""
        return self._numbers.get(_key(row))

    def _line(self, task: str, dataset: str, setting: str, protocol: str, method: str) -> dict[str, Any]:
        runs = [
            self._run(run, self._scores.get((task, dataset, setting, protocol, method, run["seed"])))
            for run in self._runs.get((task, setting, method), [])
        ]
        account = self._accounts.get((task, setting, method))
        if account is not None:
            commands = _checkout(account.get("commit"))
            if not _unrecorded(account):
                commands.append(self._command("account", task, setting, method))
            account = {**{name: account.get(name) for name in _COUNTED}, "commands": commands}
        return {
            "title": f"{method}: {task}, {dataset}, {setting}, {protocol}",
            "metrics": list(dict.fromkeys(name for run in runs for _, _, scores in run["scores"] for name in scores)),
            "degradations": any(degradation for run in runs for _, degradation, _ in run["scores"]),
            "runs": runs,
            "account": account,
        }

    def _run(self, run: dict[str, Any], rows: pd.DataFrame | None) -> dict[str, Any]:
        try:
            experiment = self._profile.experiment(run["task"], run["setting"], run["method"], run["seed"])
        except LorunError:  # the profile no longer has it; the note of the run says so
            experiment = None
        scores: dict[tuple[Any, Any], dict[str, Any]] = {}
        for row in () if rows is None else rows.itertuples():
            scores.setdefault((row.image, plain(row.degradation)), {})[str(row.metric)] = row.value
        return {
            **run,
            "weights": str(experiment.spec.weights) if experiment and isinstance(experiment.spec, Released) else None,
            "folder": f"runs/{run_folder(run)}",
            "note": self._note(experiment, run),
            "commands": list(self._commands(experiment, run)),
            "scores": [[image, degradation, values] for (image, degradation), values in scores.items()],
        }

    def _note(self, experiment: Experiment | None, run: dict[str, Any]) -> str | None:
        """What keeps today's code or profile from reproducing the run."""
        if _unrecorded(run):
            commit = run["trained_commit"] or run["commit"]
            return (
                f"Made by code of commit {commit}. Methods and options had other names then: see that commit's README."
            )
        if experiment is None:
            return f"{self._config} no longer has this method here. Use the profile of the run's commit."
        if experiment.config_hash != run["config_hash"]:
            hashes = f"{run['config_hash']} for this run, {experiment.config_hash} today"
            return f"{self._config} has changed since: the hash of the configuration is {hashes}."
        return None

    def _commands(self, experiment: Experiment | None, run: dict[str, Any]) -> Iterator[str]:
        """Commands that reproduce a run in a clone: code, data, training, scores; of older code only the first."""
        which = run["task"], run["setting"], run["method"], run["seed"]
        trained = run["trained_commit"] or run["commit"]
        yield from _checkout(trained)
        if _unrecorded(run):
            return
        if experiment is not None:
            yield f".venv/bin/lorun data fetch {' '.join(experiment.datasets)}"
            for base in [*with_bases(experiment)][:-1]:
                yield self._command("train", base.task, base.setting, base.method, run["seed"])
        yield self._command("train", *which)
        if run["commit"] != trained:
            yield from _checkout(run["commit"])
        yield self._command("evaluate", *which)

    def _command(self, name: str, task: str, setting: str, method: str, seed: int | None = None) -> str:
        options = f"--config {self._config} --task {task} --setting {setting} --method {method}"
        return f".venv/bin/lorun {name} {options}" + ("" if seed is None else f" --seed {seed}")


def run_folder(run: dict[str, Any]) -> str:
    """The folder of a run, given its line of runs.csv, in the folder of all runs."""
    return "{task}/{setting}/{method}/seed{seed}-{run}".format(**run)


def _unrecorded(made: dict[str, Any]) -> bool:
    """Whether a run or account was made before the code was recorded, when methods and options had other names."""
    return made.get("commit") is not None and made.get("code") is None


def _checkout(commit: str | None) -> list[str]:
    return [] if commit is None else [f"git checkout {commit} && make setup"]


def _key(row: Any) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in LINE)
