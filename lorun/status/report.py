"""The status of result sets as a table for people and as JSON."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from tabulate import tabulate  # type: ignore[import-untyped]

from lorun.results.store import ResultSet
from lorun.status.check import STATES, Reason, Result

Checked = Sequence[tuple[ResultSet, Sequence[Result]]]

_SHOWN = 3  # names of what differs; JSON has all
_HEADINGS = ("set", "task", "what", "methods", "settings", "number", "state", "run again", "hours", "why")


def render(checked: Checked) -> str:
    """A line for the runs or accounts of a task that are not fresh for the same reasons, and a line for each set."""
    lines = [line for results, checks in checked for line in _lines(results.name, checks)]
    table = [tabulate(lines, _HEADINGS, "plain", disable_numparse=True)] if lines else []
    return "\n".join([*table, *(_summary(results, checks) for results, checks in checked)])


def as_json(checked: Checked) -> str:
    """Every run and account with all its reasons, by result set."""
    sets = {
        results.name: [
            asdict(result) | {"what": result.what, "state": result.state, "run_again": result.steps}
            for result in checks
        ]
        for results, checks in checked
    }
    return json.dumps(sets, indent=1, default=Path.as_posix)


def _lines(name: str, checks: Iterable[Result]) -> list[list[str]]:
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in checks:
        if result.reasons:
            why = "; ".join(dict.fromkeys(map(_text, result.reasons)))  # steps may share a reason
            key = (result.task, result.what, result.state, " ".join(result.steps) or "nothing", why)
            groups.setdefault(key, []).append(result)
    lines = []
    for (task, what, state, steps, why), group in groups.items():
        methods = " ".join(dict.fromkeys(one.method for one in group))
        settings = " ".join(dict.fromkeys(one.setting for one in group))
        lines.append([name, task, what, methods, settings, str(len(group)), state, steps, _hours(group), why])
    return lines


def _text(reason: Reason) -> str:
    more = len(reason.details) - _SHOWN
    details = ", ".join(reason.details[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    if reason.kind == "unknown":
        return f"unknown: {details}"
    return f"{reason.step}: {reason.kind}" + (f" ({details})" if details else "")


def _hours(checks: Iterable[Result]) -> str:
    seconds = [result.seconds for result in checks]
    known = sum(number for number in seconds if number is not None) / 3600
    return f"{known:.2f}{' or more' if None in seconds else ''}"


def _summary(results: ResultSet, checks: Sequence[Result]) -> str:
    version = "no version" if results.version is None else results.version.cited
    parts = []
    for what in ("run", "account"):
        counts = Counter(result.state for result in checks if result.what == what)
        states = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
        parts.append(f"{what}s: {states or 'none'}")
    accepted = sum(result.accepted is not None for result in checks)
    parts += [f"{accepted} accepted after a seed was run again"] if accepted else []
    parts += [f"training again takes {_hours(checks)} hours"] if any("train" in one.steps for one in checks) else []
    return f"{results.name} ({version}): {'; '.join(parts)}"
