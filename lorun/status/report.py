"""What `lorun status` says: a table for people, and all of it as JSON."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorun.config import PRETRAIN, PRETRAINED, Profile
from lorun.results.version import NO_VERSION, Version, version_of
from lorun.status.cost import Cost, Costs
from lorun.status.judge import Judged, judge, read_profile
from lorun.status.project import Project
from lorun.training.loop import WEIGHTS

_OLD_BASE = {"code", "data", "environment", "unknown"}
"""Reasons to train again that hold for phase 1 of LoRun as well."""

_SHOWN = 3  # of the files and names that differ; JSON has all

_STATES = ("fresh", "stale", "unknown", "missing")


@dataclass(frozen=True)
class Base:
    """A phase 1 that would have to run again, and the methods that start from it."""

    folder: Path
    task: str
    setting: str
    seed: int
    methods: tuple[str, ...]


@dataclass
class SetStatus:
    """A result set: its runs and accounts with what each would cost, and the bases that several of them share."""

    name: str
    version: Version | None
    intact: bool
    judged: list[tuple[Judged, Cost]]
    bases: list[tuple[Base, Cost]]

    def count(self, what: str) -> dict[str, int]:
        """How many runs ("rows") or accounts ("account") are in which state."""
        of: list[str] = [one.state for one, _ in self.judged if one.what == what]
        return {state: of.count(state) for state in _STATES}

    @property
    def total(self) -> Cost:
        """All of it; hours are None where not a single one is known."""
        costs = [cost for _, cost in (*self.judged, *self.bases)]
        hours = [cost.hours for cost in costs if cost.hours is not None]
        return Cost(
            hours=sum(hours) if hours else None,
            guessed=any(cost.guessed or cost.hours is None for cost in costs),
            stored_bytes=sum(cost.stored_bytes for cost in costs),
            passing_bytes=max((cost.passing_bytes for cost in costs), default=0),
            step_bytes=max((cost.step_bytes for cost in costs), default=0),
        )


def status_of(project: Project, folder: Path, runs: Path) -> SetStatus:
    """The status of the result set in `folder`.

    Raises:
        LorunError: its profile or a table is missing, or the latter has other columns.
    """
    profile = read_profile(project, folder.name)
    judged = judge(project, folder, profile, runs)
    costs = Costs(folder, profile)
    version = version_of(folder)
    return SetStatus(
        name=folder.name,
        version=version,
        intact=version is not None and version.holds(folder),
        judged=[(one, costs.of(one)) for one in judged],
        bases=_bases(profile, judged, costs, runs),
    )


def _bases(profile: Profile, judged: Iterable[Judged], costs: Costs, runs: Path) -> list[tuple[Base, Cost]]:
    found: dict[Path, tuple[Base, Cost]] = {}
    for one in judged:
        if one.method not in PRETRAINED or one.seed is None or "train" not in one.steps:
            continue
        experiment = profile.experiment(one.task, one.setting, one.method, one.seed)
        base = experiment.pretraining
        folder = runs / base.folder
        kinds = {reason.kind for reason in one.reasons if reason.step == "train"}
        if not kinds & _OLD_BASE and (folder / WEIGHTS).exists():
            continue
        methods = (*found[folder][0].methods, one.method) if folder in found else (one.method,)
        known = Base(folder, base.task, base.setting, base.seed, tuple(dict.fromkeys(methods)))
        found[folder] = (known, costs.pretraining(experiment))
    return list(found.values())


def render(sets: Sequence[SetStatus], notes: Sequence[str] = ()) -> str:
    """A line per task of runs that are not fresh for like reasons, then what all of a result set would take."""
    lines = [["set", "task", "of", "methods", "settings", "runs", "state", "run again", "hours", "MB", "why"]]
    for one in sets:
        lines += _lines(one)
    text = [_aligned(lines)] if len(lines) > 1 else []
    text += [_total(one) for one in sets]
    if len(lines) > 1:
        text.append(
            "hours: of the machine in timing.csv; ~ some guessed from other trainings; ? nothing to guess from. "
            "MB: weights, and a checkpoint while it trains."
        )
    return "\n".join([*text, *notes])


def as_json(sets: Sequence[SetStatus], notes: Sequence[str] = ()) -> dict[str, Any]:
    """All of it: every run with its reasons, the definitions that differ, its folder and its cost."""
    return {
        "sets": [
            {
                "name": one.name,
                "version": None if one.version is None else asdict(one.version),
                "intact": one.intact,
                "runs": one.count("rows"),
                "accounts": one.count("account"),
                "total": asdict(one.total),
                "judged": [
                    {
                        **{name: getattr(run, name) for name in ("what", "task", "setting", "method", "seed", "rows")},
                        "folder": None if run.folder is None else run.folder.as_posix(),
                        "state": run.state,
                        "runs_again": run.steps,
                        "weights_here": run.weights_here,
                        "reasons": [asdict(reason) for reason in run.reasons],
                        "code": run.code,
                        "cost": asdict(cost),
                    }
                    for run, cost in one.judged
                ],
                "bases": [
                    {**asdict(base), "folder": base.folder.as_posix(), "cost": asdict(cost)} for base, cost in one.bases
                ],
            }
            for one in sets
        ],
        "notes": list(notes),
    }


def _lines(one: SetStatus) -> list[list[str]]:
    groups: dict[tuple[str, ...], list[tuple[Judged, Cost]]] = {}
    for judged, cost in one.judged:
        if judged.state == "fresh":
            continue
        steps = " ".join(judged.steps) or "nothing"
        if "train" in judged.steps and not any(reason.step == "train" for reason in judged.reasons):
            steps += " (no weights here)"
        kinds = " ".join(f"{reason.step} {reason.kind}" for reason in judged.reasons)
        groups.setdefault((judged.task, judged.what, judged.state, steps, kinds), []).append((judged, cost))
    lines = []
    for (task, what, state, steps, _), of in groups.items():
        methods, settings = (
            " ".join(dict.fromkeys(getattr(judged, part) for judged, _ in of)) for part in ("method", "setting")
        )
        cost, why = _sum([cost for _, cost in of]), _why([judged for judged, _ in of])
        costs = [_hours(cost), _mb(cost)]
        lines.append([one.name, task, what, methods, settings, str(len(of)), state, steps, *costs, why])
    for task in dict.fromkeys(base.task for base, _ in one.bases):
        of_task = [(base, cost) for base, cost in one.bases if base.task == task]
        cost = _sum([cost for _, cost in of_task])
        settings = " ".join(dict.fromkeys(base.setting for base, _ in of_task))
        why = f"base of {', '.join(dict.fromkeys(method for base, _ in of_task for method in base.methods))}"
        costs = [_hours(cost), _mb(cost)]
        lines.append([one.name, task, "base", PRETRAIN, settings, str(len(of_task)), "", "train", *costs, why])
    return lines


def _why(of: Sequence[Judged]) -> str:
    """The reasons that runs share; of what differs, what most of them name."""
    said = []
    for step, kind in dict.fromkeys((reason.step, reason.kind) for one in of for reason in one.reasons):
        named: dict[str, int] = {}
        for one in of:
            for reason in one.reasons:
                for where in reason.where if (reason.step, reason.kind) == (step, kind) else ():
                    named[where] = named.get(where, 0) + 1
        first = sorted(named, key=lambda where: -named[where])[:_SHOWN]
        more = f" and {len(named) - len(first)} more" if len(named) > len(first) else ""
        said.append(f"{step}: {kind}" + (f" ({', '.join(first)}{more})" if first else ""))
    return "; ".join(said)


def _total(one: SetStatus) -> str:
    said = []
    for what, name in (("rows", "runs"), ("account", "accounts")):
        count = one.count(what)
        shown = ", ".join(f"{number} {state}" for state, number in count.items() if number) or "none"
        said.append(f"{name}: {shown}")
    version = NO_VERSION if one.version is None else one.version.cited
    if one.version is not None and not one.intact:
        version += ", but its tables hold other scores"
    text = f"{one.name} ({version}): {'; '.join(said)}"
    total = one.total
    if not total.stored_bytes and not total.hours:
        return text
    return f"{text}; to bring it up to date: {_hours(total)} hours, {_mb(total)} MB"


def _sum(costs: Sequence[Cost]) -> Cost:
    known = [cost.hours for cost in costs]
    return Cost(
        hours=None if None in known else sum(hours for hours in known if hours is not None),
        guessed=any(cost.guessed for cost in costs),
        stored_bytes=sum(cost.stored_bytes for cost in costs),
        passing_bytes=max(cost.passing_bytes for cost in costs),
    )


def _hours(cost: Cost) -> str:
    if cost.hours is None:
        return "?"
    return f"{'~' if cost.guessed else ''}{cost.hours:.2f}"


def _mb(cost: Cost) -> str:
    return f"{(cost.stored_bytes + cost.passing_bytes) / 1e6:.1f}"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
