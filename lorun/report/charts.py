"""The numbers that the page plots: scores against costs, training curves, costs against the number of stages."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from lorun.bench.latency import AGREE, agreed
from lorun.errors import LorunError
from lorun.report.provenance import Provenance
from lorun.report.tables import Section
from lorun.results.colours import MARKERS, look
from lorun.results.store import RUN, grouped, plain, read_table


def looks(methods: Iterable[str]) -> dict[str, dict[str, str]]:
    """The colour and the marker of each method, as plotly calls them."""
    return {method: {"color": (own := look(method)).colour, "symbol": MARKERS[own.marker]} for method in methods}


def points(
    section: Section, timing: pd.DataFrame, latencies: pd.DataFrame, provenance: Provenance
) -> list[dict[str, Any]]:
    """A point per method of a section: scores, costs, times (ms, s).

    `latencies` are those of the section (`of_section`) by `lorun latency`, which times all methods in turns; they are
    shown if twins agree. Those of `timing` were measured one after the other, so they are not shown.
    """
    trainings = of_section(timing[timing.what == "training"], section).dropna(subset="seconds")
    latencies = latencies if agreed(latencies) else latencies[:0]
    found = []
    for _, row in section.lines.iterrows():
        latency = latencies[latencies.method == row.method]
        training = trainings[trainings.method == row.method]
        seconds = training.seconds
        trained = (plain(row.steps) or 0) > 0
        found.append(
            {
                "method": row.method,
                "line": provenance.number(row),
                "scores": {m.name: [plain(row[m.name]), plain(row[f"{m.name}_sd"])] for m in section.metrics},
                "parameters": plain(row.parameters_network),
                "step": plain(row.step_total),
                "inference": plain(row.inference_total),
                "stages": plain(row.stages),
                "latency": _time(latency, *latency[["median_ms", "q25_ms", "q75_ms"]].max()),
                "training": _time(training, seconds.mean(), seconds.min(), seconds.max()) if trained else None,
            }
        )
    return found


def of_section(table: pd.DataFrame, section: Section) -> pd.DataFrame:
    """The rows of a table that belong to the task and setting of a section."""
    return table[(table.task == section.task) & (table.setting == section.setting)]


def latency_note(latencies: pd.DataFrame) -> str:
    """What the page says about the latencies of a section, shown or not."""
    if latencies.empty:
        return "No latency: `lorun latency` has not timed this setting (results/bench/latency.csv)."
    if not agreed(latencies):
        return f"No latency: methods with the same network differ by more than {100 * (AGREE - 1):.0f} %."
    row = latencies.iloc[0]
    return (
        f"Latency: all methods in turns, {row.repeats} rounds, median and quartiles, one image of {row['image']} "
        f"pixels; commit {str(row.commit)[:12]}. Methods with the same network agree within {100 * (AGREE - 1):.0f} %."
    )


def _time(times: pd.DataFrame, value: float, least: float, most: float) -> dict[str, Any] | None:
    """A time with its range and machine; None if nothing was timed."""
    if times.empty:
        return None
    machine = {name: plain(times[name].iloc[0]) for name in ("device", "threads")}
    return {"value": float(value), "least": float(least), "most": float(most), **machine}


def curves(table: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """The training curves of each task and setting ("cs/r25"): method, seed, and lists of steps and values."""
    found: dict[str, list[dict[str, Any]]] = {}
    for (task, setting, method, seed), curve in grouped(table, RUN).items():
        values = {name: _rounded(curve[name]) for name in ("loss", "validation_psnr")}
        found.setdefault(f"{task}/{setting}", []).append(
            {"method": method, "seed": seed, "step": curve.step.tolist(), **values}
        )
    return found


def _rounded(values: pd.Series) -> list[float | None]:
    """Four digits, which draw the same curve."""
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in values]


_SCALING = ("stages", "step_total", "inference_total", "parameters_network")


def scaling(path: Path) -> dict[str, Any] | None:
    """The table of `lorun scaling`; None if there is none.

    Raises:
        LorunError: the table cannot be read.
    """
    if not path.exists():
        return None
    try:
        frame = read_table(path)
        series = [
            {"method": method, "recompute": recompute, **{name: rows[name].tolist() for name in _SCALING}}
            for (method, recompute), rows in frame.groupby(["method", "recompute"], sort=False)
        ]
        first = frame.iloc[0]
        note = (
            f"Counted by lorun scaling for {first.task}, {first.setting}: {first.batch} patches of {first.patch} "
            f"pixels, {first.precision}, {first.optimizer}; inference for one image of {first['image']} pixels; "
            f"commit {str(first.commit)[:12]}. These numbers do not depend on this result set."
        )
    except (OSError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise LorunError(f"{path}: not a table of `lorun scaling` ({error})") from error
    return {"series": series, "note": note}
