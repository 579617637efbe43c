"""Dead stages: parameters that a training was to move and did not, as it said itself (`training.json`: unmoved)."""

import re
from collections.abc import Iterator

import pandas as pd

from lorun.gate.findings import Finding
from lorun.gate.presence import DONE
from lorun.gate.sources import RUN, ResultSet

Unmoved = dict[tuple[str, ...], frozenset[str] | None]
"""Of each completed training that took steps, what it left as it was; None where it is not known."""

_ADAPTER = re.compile(r"\blora_[AB]\.(stage_\d+)\b")
_STAGE = re.compile(r"\bdenoisers\.(\d+)\.")


def compare_stages(reference: ResultSet, candidate: ResultSet) -> Iterator[Finding]:
    """What a training of the candidate left as it was must have stayed as it was in the reference, too.

    Where the reference does not know, an adapter that did not move fails all the same: its stage is the bare base.
    """
    before, after = _unmoved(reference), _unmoved(candidate)
    unknown = []
    for run in sorted(before.keys() & after.keys()):
        was, now = before[run], after[run]
        subject = f"{'/'.join(run[:3])} seed {run[3]}"
        if now is None and was is None:
            unknown.append(run)
        elif now is None:
            yield Finding(
                "stages", "failed", subject, "no longer says what its training left unmoved; the reference does"
            )
        elif was is not None:
            yield _judge(subject, now - was, "which moved in the reference", "failed")
        else:
            adapters = frozenset(name for name in now if _ADAPTER.search(name))
            yield _judge(subject, adapters or now, "the reference does not say", "failed" if adapters else "unknown")
    if unknown:
        subject = "trainings.csv"
        message = (
            f"neither side says of {len(unknown)} trainings what they left unmoved: a dead stage would not show here"
        )
        yield Finding("stages", "unknown", subject, message)


def _judge(subject: str, dead: frozenset[str], beside: str, verdict: str) -> Finding:
    if not dead:
        return Finding("stages", "passed", subject, "every parameter moved that should")
    message = f"{len(dead)} trained parameters did not move ({beside}): {_places(dead)}"
    return Finding("stages", "failed" if verdict == "failed" else "unknown", subject, message, severity=len(dead))


def _places(names: frozenset[str]) -> str:
    """Stages that the parameters belong to, counted from 1, and the names of those that belong to none."""
    stages = set()
    others = set()
    for name in names:
        adapter, denoiser = _ADAPTER.search(name), _STAGE.search(name)
        if adapter:
            stages.add(f"adapter of {adapter[1]}")
        elif denoiser:
            stages.add(f"denoiser of stage_{int(denoiser[1]) + 1}")
        else:
            others.add(name)
    places = sorted(stages) + sorted(others)
    return ", ".join(places[:6]) + (f" and {len(places) - 6} more" if len(places) > 6 else "")


def _unmoved(results: ResultSet) -> Unmoved:
    rows = results.rows
    steps = rows["steps"] if "steps" in rows.columns else pd.Series(1.0, index=rows.index)
    done = rows[(rows.status == DONE) & ~(steps == 0)]
    runs = {tuple(map(str, run)) for run in done[list(RUN)].drop_duplicates().itertuples(index=False, name=None)}
    found: Unmoved = dict.fromkeys(runs)
    if results.trainings is None:
        return found
    for _, row in results.trainings.iterrows():
        run = tuple(str(row[name]) for name in RUN)
        if run in found and pd.notna(row.unmoved):
            found[run] = frozenset() if pd.isna(row["names"]) else frozenset(str(row["names"]).split())
    return found
