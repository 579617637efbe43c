"""The targets, judged from what was measured (`targets.csv`): passed if the median does not exceed the limit."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from lorun.bench.rounds import Spread
from lorun.bench.steps import Measured, What

Quantity = Literal["time", "peak bytes", "parameters held"]


@dataclass(frozen=True)
class Target:
    """A ratio between two variants, `of` to `to`; a limit of None stands for the ratio of the parameter counts."""

    what: What
    quantity: Quantity
    of: str
    to: str
    limit: float | None

    @property
    def name(self) -> str:
        return f"{self.what}, {self.quantity}: {self.of} / {self.to}"


TARGETS = (
    Target("training step", "time", "lorun", "lorun_by_peft", 0.80),
    Target("training step", "time", "lorun", "block_k", 0.90),
    Target("training step", "peak bytes", "lorun_recomputed", "block_k", 0.18),
    Target("training step", "time", "lorun_recomputed", "block_k", 1.35),
    Target("training step", "peak bytes", "lorun", "lorun_by_peft", 0.82),
    Target("reconstruction", "time", "lorun", "block_k", 1.03),
    Target("reconstruction", "time", "lorun", "lorun_by_peft", 0.70),
    Target("reconstruction", "parameters held", "lorun", "block_k", None),
    Target("training step", "time", "lorun", "deepinv_unfolded", 1.0),
    Target("training step", "peak bytes", "lorun", "deepinv_unfolded", 0.25),
    Target("training step", "time", "lorun_recomputed", "deepinv_unfolded", 1.0),
    Target("training step", "peak bytes", "lorun_recomputed", "deepinv_unfolded", 0.25),
)


def judge(measured: Iterable[Measured], on_gpu: bool) -> pd.DataFrame:
    """A row per target and profile: the ratio, its quartiles where it was timed, the limit, pass or miss.

    The speed-up over plain peft in bfloat16 is a GPU's alone: elsewhere its row says that it was not measured.
    """
    rows = []
    for one in measured:
        if one.what == "training step":
            rows.append(_speed_up(one, on_gpu))
        for target in TARGETS:
            if target.what == one.what:
                found = _find(one, target)
                limit = one.parameter_ratio(target.of, target.to) if target.limit is None else target.limit
                rows.append(_row(one.profile, target.name, found, limit))
    return pd.DataFrame(rows)


def _speed_up(one: Measured, on_gpu: bool) -> dict[str, object]:
    name, least = "training step on a GPU, bfloat16: images/s of lorun / lorun_by_peft, at least", 2.0
    row = _row(one.profile, name, one.time_ratio("lorun_by_peft", "lorun") if on_gpu else math.nan, least)
    passed = "pass" if on_gpu and row["measured"] >= least else "miss"  # type: ignore[operator]
    return {**row, "verdict": passed if on_gpu else "not measured: no GPU"}


def judge_startup(startup: pd.DataFrame) -> pd.DataFrame:
    """Start-up to the first step, in seconds beyond 1.5 imports of torch."""
    name = "start-up of {}: seconds beyond 1.5 x import of torch"
    rows = startup[startup.extra_seconds.notna()].to_dict("records")
    return pd.DataFrame([_row(row["profile"], name.format(row["what"]), row["extra_seconds"], 2.0) for row in rows])


def _find(one: Measured, target: Target) -> Spread | float:
    if target.quantity == "time":
        return one.time_ratio(target.of, target.to)
    ratio = one.bytes_ratio if target.quantity == "peak bytes" else one.held_ratio
    return ratio(target.of, target.to)


def _row(profile: str, target: str, found: Spread | float, limit: float) -> dict[str, object]:
    value = found.median if isinstance(found, Spread) else found
    return {
        "profile": profile,
        "target": target,
        "measured": round(value, 4),
        "q25": round(found.low, 4) if isinstance(found, Spread) else None,
        "q75": round(found.high, 4) if isinstance(found, Spread) else None,
        "limit": round(limit, 4),
        "verdict": "pass" if value <= limit else "miss",
    }
