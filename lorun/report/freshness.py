"""Whether today's code, configuration, data and packages would give the numbers of a table."""

from pathlib import Path
from typing import NamedTuple

from lorun.errors import LorunError
from lorun.profiles import Profile
from lorun.results.store import ResultSet
from lorun.status.check import Result, State, status_of
from lorun.status.project import Project

_WORST: tuple[State, ...] = ("stale", "unknown", "fresh", "missing")
_NAMED = {"run": "runs", "account": "counts"}


class Fresh(NamedTuple):
    """The worst state of some runs and accounts, and how many are in each state."""

    state: State
    text: str


class Freshness:
    """The states of a result set by `lorun status`, in the project in `root`; unknown if that is none."""

    def __init__(self, profile: Profile, results: ResultSet, *, runs: Path, root: Path) -> None:
        self._unknown = ""
        self._checked: list[Result] = []
        try:
            self._checked = status_of(Project(root), results, runs, profile)
        except LorunError as error:
            self._unknown = str(error)

    def of(self, task: str | None = None, setting: str | None = None) -> Fresh:
        """The state of a task and setting, or of the whole set."""
        if self._unknown:
            return Fresh("unknown", f"not compared with today's code ({self._unknown})")
        here = [one for one in self._checked if task is None or (one.task, one.setting) == (task, setting)]
        worst: State = min((one.state for one in here), key=_WORST.index, default="missing")
        kinds = {named: [one for one in here if one.what == what] for what, named in _NAMED.items()}
        return Fresh(worst, "; ".join(f"{named}: {_counted(group)}" for named, group in kinds.items() if group))


def _counted(results: list[Result]) -> str:
    """How many are in each state; methods are named where the states differ."""
    methods: dict[State, list[str]] = {}
    for result in results:
        methods.setdefault(result.state, []).append(result.method)
    if len(methods) == 1:
        return f"all {len(results)} {results[0].state}"
    return ", ".join(f"{len(some)} {state} ({', '.join(dict.fromkeys(some))})" for state, some in methods.items())
