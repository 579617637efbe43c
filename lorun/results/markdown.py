"""The pages of a result set, summary.md and details.md, and the columns of their tables."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pandas as pd

from lorun.evaluation.metrics import METRICS, Metric
from lorun.evaluation.protocols import get_protocol
from lorun.profiles import Profile
from lorun.results.cells import (
    Cell,
    Column,
    Table,
    cell,
    column,
    decimal,
    integer,
    make_table,
    significant,
    spread,
)
from lorun.results.published import published_methods, published_scores
from lorun.results.store import ResultSet, grouped
from lorun.results.summary import shown
from lorun.results.tasks import COMPARED
from lorun.results.tuning import choices


def render(profile: Profile, results: ResultSet) -> str:
    """The page summary.md: scores under the leading protocol with costs, differences between methods, the tuning, tasks
    with a shared base, the paper's claims, published scores."""
    summary, shared = results.summary, results.tasks
    parts = [f"# Results of the `{profile.profile}` profile\n"]
    for title, lines, common in sections(summary):
        leading = profile.tasks[common["task"]].evaluation.protocols[0]
        main = lines[lines.protocol == leading]
        heading = profile.tasks[common["task"]].physics_of(common["setting"]).heading
        count = "" if common["m"] is None else f"m = {integer(common['m']).text} per block, "
        parts.append(
            f"## {title}\n\n{heading[0].upper()}{heading[1:]}, {count}{integer(lines.images.max()).text} test images; "
            f"scores under `{leading}`, checkpoint policy {_policies(main)}.\n"
            f"Memory of a training step on {_step_size(common)}; inference and GFLOPs of one image of "
            f"{integer(common['image']).text} pixels.\n"
        )
        parts.append(make_table(main, [*score_columns(main), *COSTS]).markdown())
    if len(paired := leading_differences(results)):
        parts.append("## Differences\n\n" + make_table(paired, DIFFERENCES).markdown() + _DIFFERENCES)
    if len(results.tuning):
        parts.append("## Tuning\n\n" + make_table(choices(results.tuning), TUNING).markdown() + _TUNING)
    if shared is not None:
        parts.append("## One base for several tasks\n\n" + make_table(shared, TASKS).markdown() + "\n" + _sums(shared))
    if len(results.claims):
        parts.append("## The paper's claims\n\n" + make_table(results.claims, CLAIMS).markdown())
    if len(compared := results.comparison):
        table = make_table(compared, comparison_columns(compared)).markdown()
        parts.append("## Against published scores\n\n" + table + _VERDICTS)
    parts.append(_meaning(summary))
    return "\n".join(parts)


def render_details(profile: Profile, summary: pd.DataFrame, degradations: pd.DataFrame) -> str:
    """The page details.md: scores under the other protocols and under each degradation; parameters and memory by
    kind."""
    parts = [f"# Results of the `{profile.profile}` profile in detail\n"]
    groups = grouped(degradations, _PLACE)
    for title, lines, common in sections(summary):
        leading = profile.tasks[common["task"]].evaluation.protocols[0]
        parts.append(f"## {title}\n")
        for protocol, other in lines[lines.protocol != leading].groupby("protocol", sort=False):
            parts.append(f"Under `{protocol}`:\n\n" + make_table(other, score_columns(other)).markdown())
        for caption, table in degradation_tables(profile, groups.get(tuple(common[name] for name in _PLACE))):
            parts.append(f"{caption}:\n\n" + table.markdown())
        main = lines[lines.protocol == leading]
        parts.append("Parameters:\n\n" + make_table(main, PARAMETERS).markdown())
        parts.append(
            f"Live memory at the peak of a training step on {_step_size(common)} (MB):\n\n"
            + make_table(main, MEMORY).markdown()
        )
    return "\n".join(parts)


_PLACE = ("task", "dataset", "setting")


def sections(summary: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, dict[Any, Any]]]:
    """Each task, dataset and setting: its title, its lines, and the first known value of each column (a failed run
    knows little of what all methods have in common)."""
    for (task, dataset, setting), lines in summary.groupby(list(_PLACE), sort=False):
        title = f"{task}, {shown(str(dataset), lines.simulated.iloc[0])}, {setting}"
        yield title, lines, {column: next(iter(lines[column].dropna()), None) for column in lines}


def score_columns(lines: pd.DataFrame) -> list[Column]:
    """Method, its scores in the metrics of the protocols of these lines, status."""
    metrics = [METRICS[name] for name in _measured(lines)]
    return [
        column("method"),
        *((metric.heading, partial(_mean, name=metric.name, digits=metric.digits)) for metric in metrics),
        ("status", _status),
    ]


def degradation_tables(profile: Profile, degradations: pd.DataFrame | None) -> Iterator[tuple[str, Table]]:
    """Caption and table per protocol and metric of one task, dataset and setting: a line per method, a column per
    degradation. Published scores follow those of their method."""
    if degradations is None:
        return
    for (protocol, name), lines in degradations.groupby(["protocol", "metric"], sort=False):
        metric = METRICS[str(name)]
        published = _published_rows(profile, lines.iloc[0], metric)
        rows = []
        for method, scores in lines.groupby("method", sort=False):
            rows.append([cell(method), *(decimal(value, metric.digits) for value in scores["value"])])
            rows += published.pop(str(method), [])
        rows += [row for others in published.values() for row in others]
        table = Table(["method", *lines.degradation.unique()], rows)
        yield f"{metric.heading} under each degradation, `{protocol}`", table


def leading_differences(results: ResultSet) -> pd.DataFrame:
    """The differences under the leading protocol of each task, if it measures PSNR."""
    paired, leading = results.differences, results.summary.groupby("task").protocol.first()
    return paired[paired.protocol == paired.task.map(leading)]


def comparison_columns(compared: pd.DataFrame) -> list[Column]:
    """Columns of the comparison with published scores."""
    columns = COMPARISON if compared.degradation.notna().any() else [c for c in COMPARISON if c[0] != "degradation"]
    return list(columns)


def _published_rows(profile: Profile, line: pd.Series, metric: Metric) -> dict[str, list[list[Cell]]]:
    """Rows of published scores under each degradation by method, for the place and protocol of a line."""
    physics = profile.tasks[line.task].physics_of(line.setting)
    found = {}
    for method in published_methods(line.task, line.dataset, physics):
        by_source: dict[str, dict[str, float]] = {}
        for score in published_scores(line.task, line.dataset, method, physics):
            value = getattr(score, metric.name, None)
            if score.degradation is not None and score.protocol == line.protocol and value is not None:
                by_source.setdefault(score.source, {}).setdefault(score.degradation, value)
        found[method] = [
            [cell(f"{method} ({source})"), *(decimal(values.get(name), metric.digits) for name in physics.degradations)]
            for source, values in by_source.items()
        ]
    return found


def _sums(shared: pd.DataFrame) -> str:
    """Per base, the bytes of all settings that share it: on the base, and as networks of their own."""
    lines = []
    for base, settings in shared.drop_duplicates(["task", "setting"]).groupby("base", sort=False):
        together = settings.bytes_base.iloc[0] + settings.bytes_added.sum(skipna=False)
        lines.append(
            f"* The base {base} and what {len(settings)} settings add to it take {integer(together).text} bytes "
            f"(float32); as many networks of their own take {integer(settings.bytes_full.sum(skipna=False)).text}.\n"
        )
    return "".join(lines)


def _policies(lines: pd.DataFrame) -> str:
    """The checkpoint policies of the lines: one for all, or each with its methods."""
    methods = lines.dropna(subset=["checkpoint_policy"]).groupby("checkpoint_policy", sort=False).method
    if len(methods) < 2:
        return f"`{next(iter(methods.groups), '–')}`"
    return ", ".join(f"`{policy}` ({', '.join(names)})" for policy, names in methods)


def _step_size(common: dict[Any, Any]) -> str:
    return f"{integer(common['step_batch']).text} patches of {integer(common['step_patch']).text} pixels"


def _measured(summary: pd.DataFrame) -> list[str]:
    """The metrics of the protocols of the lines."""
    measured = {metric for protocol in summary.protocol.unique() for metric in get_protocol(protocol).metrics}
    return [metric for metric in METRICS if metric in measured]


def _meaning(summary: pd.DataFrame) -> str:
    metrics = [METRICS[name] for name in _measured(summary)]
    lower = ", ".join(metric.title for metric in metrics if metric.better == "lower")
    return _MEANING.format(
        metrics=", ".join(metric.title for metric in metrics), lower=f"; lower is better for {lower}" if lower else ""
    )


_MEANING = """\
## What the numbers mean

* {metrics}: mean over seeds of the mean over images and degradations, ± standard deviation over seeds{lower}.
* steps: all optimiser steps. LoRun's pretraining is included, also if it was done in a different task or setting.
* training: counted floating-point operations of all these steps, forward and backward, / 10^12; – if not recorded.
* network: parameters without the operator (sampling matrix and initial reconstruction), which all methods share.
* MB (10^6 bytes): live tensor bytes at the peak, counted, the same on every machine.
* GFLOPs: 2 x multiply-adds of one reconstruction / 10^9.
* `runs.csv` says where each number comes from. docs/tables.md explains every file and column.
"""

_DIFFERENCES = """
* PSNR of the first method minus that of the second, paired by image and seed, with the 95 % interval over images and
  seeds. better, worse: the interval is above 0, or below. With one seed it says nothing about other seeds, with one
  image nothing about other images.
* least: the smallest true difference that so many images and seeds would show in 80 % of repetitions.
"""

_TUNING = """
* Short trainings, scored on validation images. adapter_rate: the adapters' learning rate, as a multiple of the common
  one.
* edge: whether the choice is the lowest or the highest value of the grid, so that a better one may lie outside.
"""

_VERDICTS = """
* reproduced, off: the authors' weights, measured the same way; within the tolerance or not. other training: we trained
  the weights, so the published score is for orientation. protocol unknown: the source does not say how it measured.
* Scores of different operators (a fixed and a learned Phi), or under different protocols, cannot be ranked.
"""


def _mean(row: pd.Series, name: str, digits: int) -> Cell:
    return spread(row[name], row[f"{name}_sd"], digits)


def difference(row: pd.Series) -> Cell:
    """A difference in dB with its interval, if there is one."""
    limits = "" if pd.isna(row.low) else f" [{row.low:+.2f}, {row.high:+.2f}]"
    return cell(row["mean"], lambda mean: f"{mean:+.2f}{limits}")


def _status(row: pd.Series) -> Cell:
    return cell(f"{row.status} {integer(row.seeds).text}/{integer(row.seeds_planned).text}")


def _score(name: str, more: int = 0) -> Column:
    """A score in the metric of its row, with `more` decimals than usual."""
    return name, lambda row: decimal(row[name], METRICS[row.metric].digits + more)


_DATASET: Column = ("dataset", lambda row: cell(shown(row.dataset, row.simulated)))

COSTS: Sequence[Column] = [
    column("steps", "steps", integer),
    column("training_flops", "training (TFLOP)", significant, digits=3, unit=1e12),
    column("parameters_network", "network", integer),
    column("parameters_trainable", "trainable", integer),
    column("step_total", "step (MB)", decimal, digits=1, unit=1e6),
    column("inference_total", "inference (MB)", decimal, digits=2, unit=1e6),
    column("flops", "GFLOPs", decimal, digits=2, unit=1e9),
]

PARAMETERS: Sequence[Column] = [
    column("method"),
    column("stages", "K", integer),
    *(
        column(f"parameters_{name}", name.replace("_", " "), integer)
        for name in ("operator", "base", "adapters", "step_sizes", "other", "network", "published")
    ),
]

MEMORY: Sequence[Column] = [
    column("method"),
    column("step_recompute", "recompute"),
    *(column(f"step_{name}", name, decimal, digits=2, unit=1e6) for name in ("parameters", "gradients", "optimiser")),
    *(column(f"step_{name}", name, decimal, digits=1, unit=1e6) for name in ("activations", "other", "total")),
    column("step_phase", "phase"),
]

TASKS: Sequence[Column] = [
    column("task"),
    _DATASET,
    column("setting"),
    column("base"),
    ("metric", lambda row: cell(METRICS[row.metric].heading)),
    *((name, lambda row, name=name: _mean(row, name, METRICS[row.metric].digits)) for name in COMPARED),
    column("bytes_base", "bytes of the base", integer),
    column("bytes_added", "added by adapters", integer),
    column("bytes_full", "full network", integer),
]

DIFFERENCES: Sequence[Column] = [
    column("task"),
    _DATASET,
    column("setting"),
    ("methods", lambda row: cell(f"{row.method} - {row.reference}")),
    ("difference (dB)", difference),
    column("verdict"),
    column("least", "least (dB)", decimal, digits=2),
    column("images", show=integer),
    column("seeds", show=integer),
]

TUNING: Sequence[Column] = [
    *(column(name) for name in ("task", "setting", "method", "parameter")),
    column("value", "chosen", lambda value: cell(value, "{:g}".format)),
    column("validation_psnr", "validation PSNR (dB)", decimal, digits=2),
    column("edge"),
    column("grid"),
]

CLAIMS: Sequence[Column] = [
    column("task"),
    _DATASET,
    column("setting"),
    column("stages", "K", integer),
    column("claim"),
    *(column(name, show=decimal, digits=3) for name in ("published", "ours", "delta")),
]

COMPARISON: Sequence[Column] = [
    column("method"),
    _DATASET,
    *(column(name) for name in ("setting", "operator", "protocol", "metric", "degradation")),
    *(_score("published"), _score("ours"), _score("delta", 1), _score("tolerance")),
    column("verdict"),
    ("source", lambda row: cell(f"{row.source} ({row.confidence})")),
]
