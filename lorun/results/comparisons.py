"""Figures and a page of a profile's `comparisons`: each answers a question."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lorun.evaluation.metrics import METRICS, Metric
from lorun.evaluation.protocols import get_protocol
from lorun.files import write_text
from lorun.profiles import Profile
from lorun.profiles.task import Comparison
from lorun.results.colours import STRATEGIES, look
from lorun.results.figures import panels, save
from lorun.results.summary import leading

_NOTE = """\
Points are means over images and seeds, bars their standard deviation over seeds. Every method had the
same budget and the same tuning; see `summary.md` for the numbers.
"""

_COSTS = {
    "step_total": ("peak memory of a training step (MB)", 1e-6),
    "parameters_network": ("parameters of the network", 1.0),
}
"""Labels of costs, and what to multiply them by."""


def write_comparisons(profile: Profile, summary: pd.DataFrame, folder: Path, form: str) -> None:
    """Write `compare_TASK_NAME.png` for each comparison, and a page that shows them if there are some.

    `form` is one of `lorun.results.figures.FORMATS`; the page comes with PNG.
    """
    page = []
    for task, config in profile.tasks.items():
        lines = leading(summary[summary.task == task])
        if lines.empty:
            continue  # a result set that is older than the task
        places = {
            f"{dataset} {setting}": found.set_index("method")
            for (dataset, setting), found in lines.groupby(["dataset", "setting"], sort=False)
        }
        metric = METRICS[get_protocol(lines.protocol.iloc[0]).metrics[0]]
        for name, comparison in config.comparisons.items():
            path = save(folder / f"compare_{task}_{name}.{form}", _figure(comparison, places, metric))
            page += [f"## {comparison.question}", "", f"![{comparison.question}]({path.name})", ""]
    if page and form == "png":
        page = [f"# Comparisons of the profile {profile.profile}", "", *page, _NOTE]
        write_text(folder / "comparisons.md", "\n".join(page))


def _figure(comparison: Comparison, places: Mapping[str, pd.DataFrame], metric: Metric) -> Any:
    """A panel for each test set and setting; `places` has a line of the summary per method."""
    column = metric.name if comparison.measure == "score" else comparison.measure
    label, scale = _COSTS.get(column, (metric.heading, 1.0))
    figure, row = panels(len(places), (5.2 * len(places) + 0.6, 3.8))
    for axes, (place, lines) in zip(row, places.items(), strict=True):
        values = lines[column].reindex(comparison.methods).astype(float) * scale
        spread = lines.get(f"{column}_sd", values * 0).reindex(comparison.methods).astype(float).fillna(0) * scale
        if comparison.bars:
            for height, name in enumerate(comparison.bars):
                colour, marker = look(name)
                axes.errorbar(values[name], height, xerr=spread[name], fmt=marker, color=colour, capsize=3)
            axes.set_yticks(range(len(comparison.bars)), comparison.bars, fontsize=8)
            axes.invert_yaxis()
            axes.set_xlabel(label)
        else:
            _draw_lines(axes, comparison, values, spread)
            axes.set_ylabel(label)
        axes.set_title(place, fontsize=9)
        axes.grid(alpha=0.3)
    figure.suptitle(comparison.question, fontsize=10)
    return figure


def _draw_lines(axes: Any, comparison: Comparison, values: pd.Series, spread: pd.Series) -> None:
    for name, line in comparison.lines.items():
        methods = list(line.values())
        colour, marker = look(next((method for method in methods if method in STRATEGIES), methods[0]))
        points = {"marker": marker, "color": colour, "capsize": 3, "label": name}
        axes.errorbar(list(line), values[methods], yerr=spread[methods], **points)
    for method in comparison.levels:
        axes.axhline(values[method], color=look(method).colour, linestyle="--", label=method)
    axes.set_xticks(sorted({place for line in comparison.lines.values() for place in line}))
    axes.set_xlabel(comparison.axis)
    axes.legend(fontsize=8)
