"""Whether the runs and accounts of a result set are what the project of today would give, and why not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from lorun.methods import Experiment
from lorun.profiles import Profile
from lorun.results.paths import account_path
from lorun.results.store import METHOD, NO_RESULT, RUN, ResultSet, records
from lorun.status.project import Project
from lorun.training.outcome import WEIGHTS

Step = Literal["train", "evaluate", "account"]
"""What has to run again. An evaluation follows every training."""

Kind = Literal["code", "configuration", "data", "packages", "no result", "not in the profile", "unknown"]
State = Literal["fresh", "stale", "unknown", "missing"]
STATES: tuple[State, ...] = get_args(State)

_UNRECORDED = "made before code was recorded; run it again or accept it"


@dataclass(frozen=True)
class Reason:
    """Why a step has to run again; `details` names what differs."""

    step: Step
    kind: Kind
    details: tuple[str, ...] = ()


@dataclass
class Result:
    """The status of a run of a result set, or of the account of a method (`seed` is None).

    folder        what to remove before it is made again: the folder of the run, the file of the account
    weights_here  whether that folder has trained weights
    seconds       of the training, if it has to run again, by timing.csv; None if unknown
    accepted      the seed that was run again and gave equal scores, see `lorun.status.accept`
    """

    task: str
    setting: str
    method: str
    seed: int | None
    folder: Path | None = None
    reasons: list[Reason] = field(default_factory=list)
    weights_here: bool = False
    seconds: float | None = 0.0
    accepted: int | None = None

    @property
    def what(self) -> Literal["run", "account"]:
        return "account" if self.seed is None else "run"

    @property
    def state(self) -> State:
        kinds = {reason.kind for reason in self.reasons}
        if kinds == {"no result"}:
            return "missing"
        return "fresh" if not kinds else "unknown" if kinds == {"unknown"} else "stale"

    @property
    def steps(self) -> list[Step]:
        """What has to run again, in order."""
        steps = {reason.step for reason in self.reasons if reason.kind != "not in the profile"}
        if "train" in steps or ("evaluate" in steps and not self.weights_here):
            steps |= {"train", "evaluate"}
        return [step for step in get_args(Step) if step in steps]


def status_of(project: Project, results: ResultSet, runs: Path, profile: Profile | None = None) -> list[Result]:
    """The status of every run and account of a result set, and of those that its profile asks for besides.

    `profile` is by default the project's one of the same name.

    Raises:
        LorunError: there is no profile of this name.
    """
    profile = profile or project.profile(results.name)
    found = []
    for names, table, experiments, code in (
        (RUN, results.runs, profile.experiments(), {"train": "trained_code", "evaluate": "code"}),
        (METHOD, results.accounting, profile.accounted(), {"account": "code"}),
    ):
        planned = {tuple(experiment.labels[name] for name in names): experiment for experiment in experiments}
        lines = {tuple(line[name] for name in names): line for line in records(table)}
        for key in dict.fromkeys((*lines, *planned)):
            experiment, line = planned.get(key), lines.get(key)
            result = Result(**{"seed": None, **dict(zip(names, key, strict=True))})
            result.reasons = list(_reasons(project, results, experiment, line, code))
            if experiment is not None:
                result.folder = runs / experiment.folder if names is RUN else account_path(runs, experiment)
                result.weights_here = (result.folder / WEIGHTS).exists()
            result.seconds = _training_seconds(results.timing, result)
            result.accepted = None if line is None else line.get("accepted")
            found.append(result)
    return found


def _reasons(
    project: Project,
    results: ResultSet,
    experiment: Experiment | None,
    line: Mapping[str, Any] | None,
    code: Mapping[Any, str],
) -> Iterator[Reason]:
    """Why the steps have to run again; `code` names the column of `line` that holds the code of each step."""
    first = next(iter(code))
    if experiment is None:
        yield Reason(first, "not in the profile")
        return
    if line is None or line.get("status") in NO_RESULT:
        yield Reason(first, "no result", ("not in the tables" if line is None else line["status"],))
        return
    if first == "train":
        yield from _reasons_of_inputs(project, experiment, line)
    elif line.get("account_key") not in (None, experiment.account_key):
        yield Reason(first, "configuration")
    for step, column in code.items():
        if line.get(column) is None:
            yield Reason(step, "unknown", (_UNRECORDED,))
        elif changed := project.changed(results.code[line[column]], experiment):
            yield Reason(step, "code", changed)
    if other := project.other_versions(line.get("versions")):
        yield Reason(first, "packages", other)


def _reasons_of_inputs(project: Project, experiment: Experiment, line: Mapping[str, Any]) -> Iterator[Reason]:
    """Other configurations and other data of a run."""
    if line["run"] != experiment.key:
        yield Reason("train", "configuration")
    elif line["config_hash"] != experiment.config_hash:
        yield Reason("evaluate", "configuration")
    recorded = dict(entry.split("=", 1) for entry in (line["data_md5"] or "").split())
    for dataset in experiment.datasets:
        step: Step = "train" if dataset in experiment.trained_on else "evaluate"
        now = project.data_md5(dataset)
        if now is None:
            yield Reason(step, "unknown", (f"no manifest data/{dataset}.md5",))
        elif recorded.get(dataset) != now:
            yield Reason(step, "data", (dataset,))


def _training_seconds(timing: pd.DataFrame, result: Result) -> float | None:
    """What training again takes: the seconds of the run itself, or the median of those most like it in its task."""
    if "train" not in result.steps:
        return 0.0
    found = timing[(timing.what == "training") & (timing.task == result.task)].dropna(subset="seconds")
    for name in ("setting", "method", "seed"):
        same = found[found[name] == getattr(result, name)]
        found = found if same.empty else same
    return None if found.empty else float(found.seconds.median())
