"""Each run of a result set, and each account, against the project of today."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from lorun.config import Experiment, Profile, load_profile
from lorun.errors import LorunError
from lorun.results.paths import account_path
from lorun.results.rows import read_rows
from lorun.status import uses
from lorun.status.project import Project, Revision, config_changes
from lorun.status.reach import Use
from lorun.training.loop import WEIGHTS

Step = Literal["train", "evaluate", "account"]
"""What would have to run again. Who trains evaluates, too."""

Kind = Literal["code", "configuration", "data", "weights", "environment", "missing", "unknown", "not in the profile"]
State = Literal["fresh", "stale", "missing", "unknown"]

_MADE_BY = ("run", "config_hash", "commit", "dirty", "data_md5", "versions", "status")
_TRAINED_BY = ("trained_commit", "trained_dirty")


@dataclass(frozen=True)
class Reason:
    """Why something must run again: `where` names what differs, the first few for people."""

    kind: Kind
    step: Step
    where: tuple[str, ...] = ()

    def __str__(self) -> str:
        shown = ", ".join(self.where[:2]) + (f" and {len(self.where) - 2} more" if len(self.where) > 2 else "")
        return f"{self.kind}: {shown}" if shown else self.kind


@dataclass
class Judged:
    """A run (its rows), or an account (`seed` is None), of a result set.

    `code` has the definitions that differ, name -> module, by step; `weights_here` says whether the folder of runs
    holds the weights, so that evaluation can run again without a training.
    """

    result_set: str
    what: Literal["rows", "account"]
    task: str
    setting: str
    method: str
    seed: int | None
    rows: int
    folder: Path | None
    reasons: list[Reason] = field(default_factory=list)
    code: dict[Step, dict[str, str]] = field(default_factory=dict)
    weights_here: bool = False

    @property
    def state(self) -> State:
        kinds = {reason.kind for reason in self.reasons}
        if not kinds:
            return "fresh"
        if kinds & {"missing", "unknown"} == kinds:
            return "missing" if "missing" in kinds else "unknown"
        return "stale"

    @property
    def steps(self) -> list[Step]:
        """What would have to run, in order."""
        asked = {reason.step for reason in self.reasons if reason.kind != "not in the profile"}
        if "train" in asked or ("evaluate" in asked and not self.weights_here):
            asked |= {"train", "evaluate"}
        steps: tuple[Step, ...] = ("train", "evaluate", "account")
        return [step for step in steps if step in asked]


def judge(project: Project, folder: Path, profile: Profile, runs: Path) -> list[Judged]:
    """Every run and every account of the result set in `folder`, against its profile as it is now.

    Raises:
        LorunError: its tables are missing or have other columns.
    """
    rows, accounts = read_rows(folder / "rows.csv"), _read_accounts(folder / "accounting.csv")
    planned = {_which(experiment.labels): experiment for experiment in profile.experiments()}
    found = []
    for which, of in rows.groupby(["task", "setting", "method", "seed"], sort=False):
        experiment = planned.pop(which, None)
        found.append(_judge_rows(project, folder.name, experiment, which, of, runs))
    for which, experiment in planned.items():
        one = _judged(folder.name, "rows", which, 0, runs / experiment.folder, runs / experiment.folder)
        one.reasons.append(Reason("missing", "train", ("no rows",)))
        found.append(one)
    accounted = {_which(experiment.labels)[:3]: experiment for experiment in profile.accounted()}
    for record in accounts:
        which = _which(record)[:3]
        found.append(_judge_account(project, folder.name, accounted.pop(which, None), which, record, runs))
    for which, experiment in accounted.items():
        one = _judged(folder.name, "account", (*which, None), 0, account_path(runs, experiment))
        one.reasons.append(Reason("missing", "account", ("no account",)))
        found.append(one)
    return found


def read_profile(project: Project, name: str) -> Profile:
    """The profile of the result set of that name."""
    path = project.root / "config" / f"{name}.yaml"
    if not path.exists():
        raise LorunError(f"results/{name}: there is no profile {path} whose result set it could be")
    return load_profile(path)


def _judged(
    result_set: str, what: Any, which: tuple[Any, ...], rows: int, folder: Path | None, run: Path | None = None
) -> Judged:
    task, setting, method, seed = which
    here = run is not None and (run / WEIGHTS).exists()
    return Judged(result_set, what, task, setting, method, seed, rows, folder, weights_here=here)


def _judge_rows(
    project: Project,
    result_set: str,
    experiment: Experiment | None,
    which: tuple[Any, ...],
    of: pd.DataFrame,
    runs: Path,
) -> Judged:
    run = None if experiment is None else runs / experiment.folder
    one = _judged(result_set, "rows", which, len(of), run, run)
    if experiment is None:
        one.reasons.append(Reason("not in the profile", "train"))
        return one
    # All rows of a run were made at once, unless somebody put tables together.
    for _, row in of.drop_duplicates(subset=[*_MADE_BY, *_TRAINED_BY]).iterrows():
        if row.status in ("not_run", "failed"):
            one.reasons.append(Reason("missing", "train", (str(row.status),)))
            continue
        one.reasons += _of_configuration(project, experiment, row)
        one.reasons += _of_data(project, experiment, "" if pd.isna(row.data_md5) else row.data_md5)
        one.reasons += _of_code(
            project, one, "train", uses.training(experiment), row, "trained_commit", "trained_dirty"
        )
        one.reasons += _of_code(project, one, "evaluate", uses.evaluation(experiment), row, "commit", "dirty")
        one.reasons += _of_reading(project, experiment, row)
        one.reasons += _of_packages(project, row)
    one.reasons = list(dict.fromkeys(one.reasons))
    return one


def _judge_account(
    project: Project,
    result_set: str,
    experiment: Experiment | None,
    which: tuple[Any, ...],
    record: Mapping[str, Any],
    runs: Path,
) -> Judged:
    path = None if experiment is None else account_path(runs, experiment)
    one = _judged(result_set, "account", (*which, None), 1, path)
    if experiment is None:
        one.reasons.append(Reason("not in the profile", "account"))
        return one
    row = pd.Series(record)
    if row.config_hash != experiment.config_hash:
        # Most of an experiment is no concern of its account: only the configuration of then tells.
        then = _experiment_then(project, row.commit, result_set, experiment)
        if then is None or then.config_hash != row.config_hash or then.account_key != experiment.account_key:
            where = () if then is None else tuple(config_changes(then, experiment))
            one.reasons.append(Reason("configuration", "account", where))
    one.reasons += _of_code(project, one, "account", uses.account(experiment), row, "commit", "dirty")
    one.reasons += _packages("account", _said_versions(row.versions), project.now)
    return one


def _of_configuration(project: Project, experiment: Experiment, row: pd.Series) -> list[Reason]:
    key, config = row.run != experiment.key, row.config_hash != experiment.config_hash
    if not (key or config):
        return []
    for name in {Path(path).stem for path in project.now.files if path.startswith("config/")}:
        then = _experiment_then(project, row.commit, name, experiment)
        if then is not None and then.config_hash == row.config_hash:
            return [Reason("configuration", "train" if key else "evaluate", tuple(config_changes(then, experiment)))]
    return [Reason("configuration", "train" if key else "evaluate", _outside_changes(experiment, row))]


def _outside_changes(experiment: Experiment, row: pd.Series) -> tuple[str, ...]:
    """The digest of a baseline from outside the repository, where it is another one than in "NAME=DIGEST@PLACE"."""
    said = re.search(rf"(?:^|\s){experiment.method}=(\w+)@", "" if pd.isna(row.versions) else row.versions)
    now = experiment.outside
    if said is None or now is None or said[1] == now.digest:
        return ()
    return (f"outside.digest {said[1]} -> {now.digest}",)


def _experiment_then(project: Project, commit: Any, profile: str, now: Experiment) -> Experiment | None:
    """The experiment of the same name in the profile of a commit."""
    then = None if pd.isna(commit) else project.at(commit)
    found = None if then is None else then.profile(profile)
    try:
        return None if found is None else found.experiment(**now.labels)
    except LorunError:
        return None


def _of_data(project: Project, experiment: Experiment, said: str) -> list[Reason]:
    md5s = dict(one.split("=", 1) for one in said.split())
    found = []
    for name in experiment.datasets:
        now = project.data_md5(name)
        step: Step = "train" if name in experiment.trained_on else "evaluate"
        if now is None:
            found.append(Reason("unknown", step, (f"no manifest data/{name}.md5 here",)))
        elif md5s.get(name) != now:
            of_weights = experiment.weights is not None and experiment.weights.parts[1:2] == (name,)
            found.append(Reason("weights" if of_weights else "data", step, (name,)))
    return found


def _of_code(
    project: Project, one: Judged, step: Step, use: Use, row: pd.Series, commit: str, dirty: str
) -> list[Reason]:
    then, reason = _revision(project, step, row[commit], row[dirty])
    if then is None:
        return reason
    changes = project.code_changes(then, use)
    if not changes:
        return []
    one.code[step] = {**one.code.get(step, {}), **changes}
    return [Reason("code", step, tuple(sorted({_path(project, module) for module in changes.values()})))]


def _revision(project: Project, step: Step, commit: Any, dirty: Any) -> tuple[Revision | None, list[Reason]]:
    """The project as it was when a step was made; None where nobody knows, and why."""
    if pd.isna(commit):
        return None, [Reason("unknown", step, ("made outside a git checkout",))]
    if pd.isna(dirty) or dirty:
        return None, [Reason("unknown", step, (f"made with changes that commit {commit[:9]} does not have",))]
    then = project.at(commit)
    if then is None:
        why = "this clone is shallow and lacks" if project.shallow else "this clone has no"
        return None, [Reason("unknown", step, (f"{why} commit {commit[:9]}",))]
    return then, []


def _of_reading(project: Project, experiment: Experiment, row: pd.Series) -> list[Reason]:
    found = []
    for step, commit, dirty in (("train", "trained_commit", "trained_dirty"), ("evaluate", "commit", "dirty")):
        then, _ = _revision(project, step, row[commit], row[dirty])  # type: ignore[arg-type]
        changes = [] if then is None else project.reading_changes(then, experiment)
        if step == "train":
            alone = set(experiment.datasets) - set(experiment.trained_on)
            changes = [one for one in changes if one not in {f"{uses.REGISTRY}: {name}" for name in alone}]
        if changes:
            found.append(Reason("data", step, tuple(changes)))  # type: ignore[arg-type]
    return found


def _of_packages(project: Project, row: pd.Series) -> list[Reason]:
    """Rows say the packages of the evaluation; of the training, the lock files of its commit and of now have to do.

    Where several versions are locked, for several versions of Python, that of the evaluation is believed.
    """
    said = _said_versions(row.versions)
    found = _packages("evaluate", said, project.now)
    then, _ = _revision(project, "train", row.trained_commit, row.trained_dirty)
    before = {} if then is None else {name: then.packages.get(name, []) for name in said}
    locked = [(name, of, project.now.packages.get(name, [])) for name, of in before.items()]
    other = [(name, of, now) for name, of, now in locked if of != now and not (said[name] in of and said[name] in now)]
    shown = tuple(f"{name} {_either(of)} -> {_either(now)}" for name, of, now in other)
    return [*found, *([Reason("environment", "train", shown)] if shown else [])]


def _packages(step: Step, said: Mapping[str, str], now: Revision) -> list[Reason]:
    locked = {name: now.packages.get(name, []) for name in said}
    shown = tuple(f"{name} {of} -> {_either(locked[name])}" for name, of in said.items() if of not in locked[name])
    return [Reason("environment", step, shown)] if shown else []


def _either(versions: Collection[str]) -> str:
    return " or ".join(versions) or "not locked"


def _said_versions(versions: Any) -> dict[str, str]:
    """ "torch=2.15.0+cpu peft=0.21.2" by package, without the build after a plus sign; "NAME=DIGEST@PLACE" is none."""
    pairs = (one.split("=", 1) for one in ("" if pd.isna(versions) else versions).split() if "@" not in one)
    return {name: version.partition("+")[0] for name, version in pairs}


def _path(project: Project, module: str) -> str:
    """The file of a module, as the working tree has it; the module's name where it is gone."""
    path = module.replace(".", "/")
    return next(
        (file for file in (f"{path}.py", f"{path}/__init__.py") if file in project.now.files), f"{module} (gone)"
    )


def _which(labels: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(labels.get(name) for name in ("task", "setting", "method", "seed"))


def _read_accounts(path: Path) -> list[dict[str, Any]]:
    needed = ["task", "setting", "method", "config_hash", "commit", "dirty", "versions"]
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(needed, str))
    except pd.errors.EmptyDataError:  # nothing was accounted
        return []
    except (OSError, ValueError) as error:
        raise LorunError(f"{path}: not a readable table ({error})") from error
    missing = set(needed) - set(frame.columns)
    if missing:
        raise LorunError(f"{path}: not the columns of this version: {', '.join(sorted(missing))}")
    frame["dirty"] = frame.dirty.map({"True": True, "False": False})
    return frame.astype(object).where(frame.notna(), None).to_dict("records")  # type: ignore[return-value]


def installed_otherwise(project: Project, packages: Iterable[str], installed: Mapping[str, str]) -> list[str]:
    """The packages that are installed in other versions than are locked."""
    locked = project.now.packages
    found = [name for name in packages if name in locked and installed.get(name) not in locked[name]]
    return [f"{name} {installed.get(name)} (locked: {_either(locked[name])})" for name in found]
