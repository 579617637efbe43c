"""Make the result set of a profile, `results/PROFILE/`, from what its runs left in their folders."""

import json
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from lorun.data.registry import DATA_ROOT, entry_of
from lorun.errors import LorunError
from lorun.evaluation.protocols import get_protocol
from lorun.methods import Experiment
from lorun.profiles import Profile
from lorun.results.comparison import compare
from lorun.results.comparisons import write_comparisons
from lorun.results.differences import differences
from lorun.results.figures import write_figures
from lorun.results.markdown import pages
from lorun.results.paths import EVALUATION, EVALUATION_LOG, TRAINING_LOG, account_path
from lorun.results.store import (
    COUNTED,
    LINE,
    METHOD,
    NO_RESULT,
    RUN,
    ResultSet,
    code_id,
    new_result_set,
    plain,
    read_account,
    read_evaluation,
    read_result_set,
    records,
    save_result_set,
)
from lorun.results.summary import by_degradation, claims, summarise
from lorun.results.tasks import tasks
from lorun.training.outcome import Outcome, read_outcome

_LATENCY = "latency_"  # how the names of times in an account begin


def write_result_set(
    profile: Profile,
    runs: Path,
    folder: Path,
    partial: bool = False,
    data: Path = DATA_ROOT,
    keep: bool = False,
    forms: Collection[str] = (),
) -> pd.DataFrame:
    """Write all tables and pages of `profile` into `folder`, all at once, and return the summary.

    Args:
        runs: the folder of all runs.
        partial: list a missing run with its status, without a value.
        data: holds the registry that says which datasets are simulated.
        keep: keep what `folder` holds of runs that are not in `runs`.
        forms: draw the figures as well, in these of `lorun.results.figures.FORMATS`.

    Raises:
        LorunError: a run or an account is missing, and not `partial`.
    """
    present = read_result_set(folder) if keep and (folder / "rows.csv").exists() else None
    results = make_result_set(profile, runs, data, partial, present)
    texts = {"summary.json": json.dumps(_metrics(results.summary), indent=1) + "\n", **pages(profile, results)}
    save_result_set(folder, results, texts, lambda place: draw(profile, results.summary, runs, data, place, forms))
    return results.summary


def draw(profile: Profile, summary: pd.DataFrame, runs: Path, data: Path, folder: Path, forms: Collection[str]) -> None:
    """Draw all figures of a result set, in each of these of `lorun.results.figures.FORMATS`."""
    for form in forms:
        write_figures(profile, summary, runs=runs, data=data, folder=folder, form=form)
        write_comparisons(profile, summary, folder, form)


def make_result_set(
    profile: Profile,
    runs: Path,
    data: Path,
    partial: bool,
    present: ResultSet | None = None,
    scores: Callable[[Experiment], Path | None] | None = None,
) -> ResultSet:
    """All tables of a profile: those that were measured, and those that follow from them.

    Args:
        data: holds the registry that says which datasets are simulated.
        partial: list a missing or damaged run with its status.
        present: a result set to take the lines from of runs of the same configuration that are not in `runs`.
        scores: where the scores of a run are, instead of in its folder; None for a run that is not taken from `runs`.

    Raises:
        LorunError: a run or an account is missing or damaged, and not `partial`.
    """
    scores = scores or (lambda experiment: runs / experiment.folder / EVALUATION)
    measured = _Measured(profile, runs, partial, present, scores).results
    return computed(profile, measured, [name for name in profile.datasets() if entry_of(data, name).simulated])


def checked_evaluation(experiment: Experiment, path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """The run and the rows of an evaluation, which holds all that the experiment owes for each of its images.

    Raises:
        LorunError: a file is missing or damaged, holds the scores of another run, or lacks some.
    """
    run, rows = read_evaluation(path)
    if run["run"] != experiment.key:
        raise LorunError(f"{path}: scores of another run (key {run['run']}); `lorun evaluate` makes it again")
    measures = sum(len(get_protocol(name).metrics) for name in experiment.evaluation.protocols)
    each = measures * max(1, len(experiment.physics.degradations))
    for dataset in experiment.test if run["status"] == "completed" else ():
        held = rows[rows["dataset"] == dataset]
        images = held["image"].nunique()
        if not images or len(held) != each * images:
            found = f"{len(held)} scores of {images} images of {dataset}, {each} an image are due"
            raise LorunError(f"{path}: {found}; `lorun evaluate` makes it again")
    return run, rows


def computed(profile: Profile, results: ResultSet, simulated: Collection[str] = ()) -> ResultSet:
    """The result set with the tables that follow from the measured ones. `simulated` names the datasets that are."""
    summary = summarise(profile, results, simulated)
    degradations = by_degradation(profile, results, simulated)
    return replace(
        results,
        summary=summary,
        degradations=degradations,
        differences=differences(summary, results.rows),
        claims=claims(profile, summary),
        comparison=compare(profile, summary, degradations),
        tasks=tasks(profile, summary),
    )


class _Measured:
    """The lines of the measured tables, run by run. `present` is the result set to keep lines of."""

    def __init__(
        self,
        profile: Profile,
        runs: Path,
        partial: bool,
        present: ResultSet | None,
        scores: Callable[[Experiment], Path | None],
    ) -> None:
        self._runs, self._partial, self._present, self._scores = runs, partial, present, scores
        self._code = {} if present is None else dict(present.code)
        self._lines: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._images: dict[tuple[str, str], set[str]] = {}  # by task and dataset
        for experiment in profile.accounted():
            self._add_account(experiment)
        for experiment in profile.experiments():
            self._add_run(experiment)
        self._lines["tuning"] = [trial.model_dump() for trial in profile.trials]
        self.results = new_result_set(profile.profile, self._code, **self._lines)

    def _add_run(self, experiment: Experiment) -> None:
        folder, path = self._runs / experiment.folder, self._scores(experiment)
        outcome, evaluation, damage = None, None, None
        try:
            if path is not None:
                outcome = read_outcome(folder)
                evaluation = self._evaluation(experiment, path) if path.exists() else None
        except LorunError as error:
            if not self._partial:
                raise
            damage = str(error)
        kept = self._kept("runs", experiment, *RUN, "run", "config_hash")
        kept = [line for line in kept if line["status"] not in NO_RESULT]
        if evaluation is not None:
            run, rows = evaluation
            self._lines["runs"].append({**run, **{name: self._named(run[name]) for name in ("code", "trained_code")}})
            self._lines["rows"] += records(rows)
        elif kept:
            self._lines["runs"] += kept
            self._lines["rows"] += self._kept("rows", experiment, *RUN)
        elif self._partial:
            message = damage or _last_error(experiment, folder / (EVALUATION_LOG if outcome else TRAINING_LOG))
            keys = {"run": experiment.key, "config_hash": experiment.config_hash}
            status = "failed" if message else "not_run"
            self._lines["runs"].append({**experiment.labels, **keys, "status": status, "message": message})
        else:
            raise LorunError(f"{experiment.name} is not evaluated ({path} is missing): run `lorun evaluate` first")
        if outcome is not None:
            self._add_training(experiment.labels, outcome)
        elif kept:
            for name in ("timing", "trainings", "curves"):
                self._lines[name] += self._kept(name, experiment, *RUN)

    def _evaluation(self, experiment: Experiment, path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
        """The run and its rows; all runs have the same images of a dataset."""
        run, rows = checked_evaluation(experiment, path)
        for dataset, held in rows.groupby("dataset"):
            images = {*held["image"]}
            others = self._images.setdefault((experiment.task, str(dataset)), images)
            if images != others:
                raise LorunError(
                    f"{path}: {len(images)} images of {dataset}, other runs have {len(others)}; `lorun evaluate` makes "
                    "both again"
                )
        return run, rows

    def _add_training(self, labels: dict[str, Any], outcome: Outcome) -> None:
        training = {"seconds": outcome.seconds, **{name: outcome.provenance[name] for name in ("device", "threads")}}
        self._lines["timing"].append({**labels, "what": "training", **training})
        line: dict[str, Any] = {"status": outcome.status, "steps": outcome.steps}
        if outcome.unmoved is not None:
            line |= {"unmoved": len(outcome.unmoved), "names": " ".join(outcome.unmoved) or None}
        self._lines["trainings"].append({**labels, **line})
        self._lines["curves"] += [{**labels, **point.model_dump()} for point in outcome.curve]

    def _add_account(self, experiment: Experiment) -> None:
        path, account = account_path(self._runs, experiment), None
        try:
            if path.exists() and self._scores(experiment) is not None:
                account = read_account(path)
        except LorunError:
            if not self._partial:
                raise
        kept = self._kept("accounting", experiment, *METHOD, "account_key")
        if account is not None:
            latency = {name: account.pop(name) for name in [*account] if name.startswith(_LATENCY)}
            self._lines["accounting"].append({**account, "code": self._named(account.get("code"))})
            if latency:
                line = {name: experiment.labels[name] for name in METHOD} | {"what": "reconstruction latency"}
                line |= {name.removeprefix(_LATENCY): value for name, value in latency.items()}
                self._lines["timing"].append(line)
        elif kept:
            self._lines["accounting"] += kept
            times = self._kept("timing", experiment, *METHOD)
            self._lines["timing"] += [line for line in times if line["what"] != "training"]
        elif not self._partial:
            raise LorunError(f"{experiment.name} is not accounted ({path} is missing): run `lorun account` first")

    def _kept(self, table: str, experiment: Experiment, *columns: str) -> list[dict[str, Any]]:
        """Lines of the present result set that have the experiment's values in these columns."""
        if self._present is None:
            return []
        frame = getattr(self._present, table)
        hashes = {"run": experiment.key, "config_hash": experiment.config_hash, "account_key": experiment.account_key}
        values = experiment.labels | hashes
        for name in columns if len(frame) else ():
            frame = frame[frame[name] == values[name]]
        return records(frame)

    def _named(self, modules: dict[str, str] | None) -> str | None:
        """The id of the digests of modules, which are added to code.json."""
        name = code_id(modules)
        if name is not None and modules is not None:
            self._code[name] = modules
        return name


def _last_error(experiment: Experiment, log: Path) -> str | None:
    """The last line of a log, unless it reports progress."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return lines[-1] if lines and not lines[-1].startswith(experiment.name) else None


def _metrics(summary: pd.DataFrame) -> dict[str, Any]:
    """Scores and costs, nested, for `dvc metrics diff`."""
    found: dict[str, Any] = {}
    for _, row in summary.iterrows():
        place = found
        for name in LINE:
            place = place.setdefault(str(row[name]), {})
        scores = [name for metric in get_protocol(row.protocol).metrics for name in (metric, f"{metric}_sd")]
        place |= {name: plain(row[name]) for name in (*scores, *COUNTED)}
        place["status"] = row["status"]
    return found
