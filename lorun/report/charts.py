"""The numbers that the page draws: scores against costs, training curves, costs against the number of stages."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lorun.report.lines import Lines
from lorun.report.stored import Stored, read_table
from lorun.report.tables import Section

_TWINS = ("lorun_transfer", "lorun_random")  # LoRun with other values: scaling.csv has the same bytes for them

_TIMED = ["task", "setting", "method", "what"]
_TIMES = ["median_ms", "min_ms", "max_ms", "seconds", "device", "threads"]


def points(stored: Stored, sections: Sequence[Section], lines: Lines) -> list[list[dict[str, Any]]]:
    """Of each section, a point per method under the leading protocol: scores, costs, times (ms, s)."""
    latency, training = _times(stored.timing)
    found = []
    for section in sections:
        place = [section.task, section.dataset, section.setting, section.protocol]
        of = stored.summary[(stored.summary[["task", "dataset", "setting", "protocol"]] == place).all(axis=1)]
        found.append(
            [
                {
                    "method": row.method,
                    "line": lines.number(row),
                    "scores": {m.name: [_float(row[m.name]), _float(row[f"{m.name}_sd"])] for m in section.metrics},
                    "parameters": _float(row.parameters_network),
                    "step": _float(row.step_total),
                    "inference": _float(row.inference_total),
                    "stages": _float(row.stages),
                    "latency": latency.get((section.task, section.setting, row.method)),
                    "training": training.get((section.task, section.setting, row.method)) if row.steps > 0 else None,
                }
                for _, row in of.iterrows()
            ]
        )
    return found


def curves(table: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """The training curves of each task and setting ("cs/r25"): method, seed, and lists of steps and values."""
    found: dict[str, list[dict[str, Any]]] = {}
    for (task, setting, method, seed), of in table.groupby(["task", "setting", "method", "seed"], sort=False):
        found.setdefault(f"{task}/{setting}", []).append(
            {
                "method": method,
                "seed": int(str(seed)),
                "step": of.step.tolist(),
                # Four digits draw the same curve as seventeen.
                "loss": [_rounded(value) for value in of.loss],
                "validation_psnr": [_rounded(value) for value in of.validation_psnr],
            }
        )
    return found


def scaling(path: Path) -> dict[str, Any] | None:
    """What `lorun scaling` counted for every number of stages; None where it has not.

    Raises:
        LorunError: the table cannot be read.
    """
    if not path.exists():
        return None
    frame = read_table(path)
    one = frame.iloc[0]
    series = [
        {
            "method": method,
            "recompute": recompute,
            "stages": of.stages.tolist(),
            "step": of.step_total.tolist(),
            "inference": of.inference_total.tolist(),
            "parameters": of.parameters_network.tolist(),
        }
        for (method, recompute), of in frame.groupby(["method", "recompute"], sort=False)
        if method not in _TWINS
    ]
    note = (
        f"Counted by lorun scaling for {one.task}, {one.setting}: {one.batch} patches of {one.patch} pixels, "
        f"{one.precision}, {one.optimizer}; inference of one image of {one['image']} pixels; "
        f"code {str(one.commit)[:12]}. It is of the suite, not of this result set."
    )
    return {"series": series, "note": note}


_Which = tuple[str, str, str]


def _times(timing: pd.DataFrame) -> tuple[dict[_Which, Any], dict[_Which, Any]]:
    """Latencies (ms; median) and training times (s; mean over seeds) by task, setting and method, with their range."""
    latency: dict[_Which, Any] = {}
    training: dict[_Which, Any] = {}
    timing = timing.reindex(columns=[*_TIMED, *_TIMES])  # a set without any latency lacks its columns
    for (task, setting, method, what), of in timing.groupby(_TIMED, sort=False):
        which, one = (str(task), str(setting), str(method)), of.iloc[0]
        where = {"device": None if pd.isna(one.device) else one.device, "threads": _float(one.threads)}
        if what == "training" and of.seconds.notna().any():
            seconds = of.seconds.dropna()
            training[which] = {**_range(seconds.mean(), seconds.min(), seconds.max()), **where}
        elif what == "reconstruction latency" and pd.notna(one.median_ms):
            latency[which] = {**_range(one.median_ms, one.min_ms, one.max_ms), **where}
    return latency, training


def _range(value: Any, least: Any, most: Any) -> dict[str, float]:
    return {"value": float(value), "least": float(least), "most": float(most)}


def _float(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _rounded(value: Any) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None
