"""The pages of a result set, summary.md and details.md, its tables for LaTeX, and the columns of all these tables."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from lorun.evaluation.metrics import METRICS, Metric
from lorun.evaluation.protocols import get_protocol
from lorun.files import write_text
from lorun.profiles import Profile
from lorun.results.cells import (
    NONE,
    UNRANKED,
    Cell,
    Column,
    Table,
    cell,
    column,
    decimal,
    integer,
    make_table,
    mark_best,
    spread,
)
from lorun.results.published import published_methods, published_scores
from lorun.results.store import LINE, PLACE, ResultSet, grouped, read_result_set
from lorun.results.summary import choices, leading, shown
from lorun.results.tasks import COMPARED


def pages(profile: Profile, results: ResultSet) -> dict[str, str]:
    """The text of each page by its file name."""
    return {"details.md": render_details(profile, results), "summary.md": render(profile, results)}


def write_pages(profile: Profile, source: Path, folder: Path) -> pd.DataFrame:
    """Write the pages of the result set in `source` into `folder`, from its tables; return its summary.

    Raises:
        LorunError: there is no result set in `source`, or a table is damaged.
    """
    results = read_result_set(source)
    for name, text in pages(profile, results).items():
        write_text(folder / name, text)
    return results.summary


def render(profile: Profile, results: ResultSet) -> str:
    """The page summary.md: scores under the leading protocol with costs, differences between methods, the tuning, tasks
    with a shared base, the paper's claims, published scores."""
    parts = [f"# Results of the `{profile.profile}` profile\n"]
    for title, lines, common in sections(results.summary):
        parts.append(f"## {title}\n\n{in_common(profile, lines, common)}\n")
        parts.append(_scores_table(leading(lines), results.differences).markdown())
    for name, title, lines, columns in whole(results):
        note = "\n" + _sums(lines) if name == "tasks" else _NOTES.get(name, "")
        parts.append(f"## {title}\n\n{make_table(lines, columns).markdown()}{note}")
    parts.append(_meaning(results.summary))
    return "\n".join(parts)


def render_latex(results: ResultSet) -> str:
    """The tables of summary.md for LaTeX: floats with captions and labels, which need the package booktabs."""
    tables = [
        (f"{title}: scores under {(main := leading(lines)).protocol.iloc[0]}", _scores_table(main, results.differences))
        for title, lines, _ in sections(results.summary)
    ]
    tables += [(title, make_table(lines, columns)) for _, title, lines, columns in whole(results)]
    labels = (re.sub(r"[^a-z0-9]+", "-", f"{results.name} {title}".lower()) for title, _ in tables)
    return "\n".join(
        table.latex(f"{results.name}, {title}", f"tab:{label.strip('-')}")
        for (title, table), label in zip(tables, labels, strict=True)
    )


def whole(results: ResultSet) -> list[tuple[str, str, pd.DataFrame, Sequence[Column]]]:
    """Name, title, lines and columns of each table that concerns the whole set, without those that have no lines."""
    compared = results.comparison
    some = compared.degradation.notna().any()
    tables = [
        ("differences", "Differences", leading_differences(results), DIFFERENCES),
        ("tuning", "Tuning", choices(results.tuning), TUNING),
        ("tasks", "One base for several tasks", results.tasks, TASKS),
        ("claims", "The paper's claims", results.claims, CLAIMS),
        (
            *("comparison", "Against published scores", compared),
            [column for column in COMPARISON if some or column.heading != "degradation"],
        ),
    ]
    return [table for table in tables if len(table[2])]


def render_details(profile: Profile, results: ResultSet) -> str:
    """The page details.md: scores under the other protocols and under each degradation; parameters and memory by
    kind."""
    parts = [f"# Results of the `{profile.profile}` profile in detail\n"]
    groups = grouped(results.degradations, PLACE)
    for title, lines, common in sections(results.summary):
        main = leading(lines)
        parts.append(f"## {title}\n")
        for protocol, other in lines.drop(main.index).groupby("protocol", sort=False):
            parts.append(f"Under `{protocol}`:\n\n" + make_table(other, score_columns(other)).markdown())
        place = groups.get(tuple(common[name] for name in PLACE), results.degradations[:0])
        for (protocol, name), scores in grouped(place, ("protocol", "metric")).items():
            table = _beside_published(profile, scores)
            parts.append(f"{METRICS[name].heading} under each degradation, `{protocol}`:\n\n{table.markdown()}")
        parts.append("Parameters:\n\n" + make_table(main, PARAMETERS).markdown())
        parts.append(
            f"Live memory at the peak of a training step on {_step_size(common)} (MB):\n\n"
            + make_table(main, MEMORY).markdown()
        )
    return "\n".join(parts)


def sections(summary: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, dict[Any, Any]]]:
    """Each task, dataset and setting: its title, its lines, and the first known value of each column (a failed run
    knows little of what all methods have in common)."""
    for (task, dataset, setting), lines in grouped(summary, PLACE).items():
        title = f"{task}, {shown(dataset, lines.simulated.iloc[0])}, {setting}"
        yield title, lines, {column: next(iter(lines[column].dropna()), None) for column in lines}


def in_common(profile: Profile, lines: pd.DataFrame, common: dict[Any, Any]) -> str:
    """What all numbers of a section have in common: its operator, by the profile, or the operator's kind if the profile
    no longer has it; images, protocol, checkpoint policy; what memory and FLOPs are for."""
    try:
        heading = profile.tasks[common["task"]].physics_of(common["setting"]).heading
    except KeyError:
        heading = str(common["operator"])
    main = leading(lines)
    count = "" if common["m"] is None else f"m = {integer(common['m']).text} per block, "
    return (
        f"{heading[0].upper()}{heading[1:]}, {count}{integer(lines.images.max()).text} test images; "
        f"scores under `{main.protocol.iloc[0]}`, checkpoint policy {_policies(main)}.\n"
        f"Memory of a training step on {_step_size(common)}; inference and GFLOPs of one image of "
        f"{integer(common['image']).text} pixels."
    )


def _scores_table(lines: pd.DataFrame, differences: pd.DataFrame) -> Table:
    """Scores and costs of lines of the summary, and their differences from Block-K where there are some."""
    lines = with_difference(lines, differences)
    return make_table(lines, [*score_columns(lines), *COSTS])


def with_difference(lines: pd.DataFrame, differences: pd.DataFrame) -> pd.DataFrame:
    """Lines of the summary with the columns `mean`, `low`, `high` of their difference from Block-K; null without."""
    against = differences[differences.reference == "block_k"]
    return lines.merge(against[[*LINE, "mean", "low", "high"]], on=list(LINE), how="left")


def score_columns(lines: pd.DataFrame) -> list[Column]:
    """Method, its scores in the metrics of the protocols of these lines, its difference from Block-K if the lines have
    some (`with_difference`), status."""
    scores = [
        Column(metric.heading, partial(_mean, name=metric.name, digits=metric.digits), metric.better)
        for metric in _measured(lines)
    ]
    paired = [Column(DIFFERENCE, difference)] if "mean" in lines and lines["mean"].notna().any() else []
    return [column("method"), *scores, *paired, Column("status", _status)]


def scores_by_degradation(lines: pd.DataFrame, metric: Metric, sd: bool = True) -> Table:
    """A row per method of one task, dataset, setting, protocol and metric: its name, and its score under each
    degradation, the best of each marked. `sd`: with standard deviations."""
    names = list(lines.degradation.unique())
    rows = []
    for method, scores in lines.groupby("method", sort=False):
        scores = scores.set_index("degradation").reindex(names)
        pairs = zip(scores["value"], scores["sd"], strict=True)
        rows.append([cell(method), *(spread(value, some if sd else None, metric.digits) for value, some in pairs)])
    mark_best([row for row in rows if row[0].text not in UNRANKED], [None, *[metric.better] * len(names)])
    return Table(["method", *names], rows)


def leading_differences(results: ResultSet) -> pd.DataFrame:
    """The differences under the leading protocol of each task, if it measures PSNR."""
    first = results.summary.groupby("task").protocol.first()
    return results.differences[results.differences.protocol == results.differences.task.map(first)]


def _beside_published(profile: Profile, lines: pd.DataFrame) -> Table:
    """`scores_by_degradation`, each method followed by its published scores; those of other methods are at the end."""
    first = lines.iloc[0]
    metric, physics = METRICS[first.metric], profile.tasks[first.task].physics_of(first.setting)
    ours = scores_by_degradation(lines, metric, sd=False)
    rows = {row[0].text: [row] for row in ours.rows}
    for method in published_methods(first.task, first.dataset, physics):
        by_source: dict[str, dict[str | None, float]] = {}
        for score in published_scores(first.task, first.dataset, method, physics):
            value = getattr(score, metric.name, None)
            if score.degradation is not None and score.protocol == first.protocol and value is not None:
                by_source.setdefault(score.source, {}).setdefault(score.degradation, value)
        for source, values in by_source.items():
            scores = (decimal(values.get(name), metric.digits) for name in ours.headings[1:])
            rows.setdefault(method, []).append([cell(f"{method} ({source})"), *scores])
    return Table(ours.headings, [row for some in rows.values() for row in some])


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
    methods = lines.groupby("checkpoint_policy", sort=False).method
    if len(methods) < 2:
        return f"`{next(iter(methods.groups), NONE)}`"
    return ", ".join(f"`{policy}` ({', '.join(names)})" for policy, names in methods)


def _step_size(common: dict[Any, Any]) -> str:
    return f"{integer(common['step_batch']).text} patches of {integer(common['step_patch']).text} pixels"


def _measured(summary: pd.DataFrame) -> list[Metric]:
    """The metrics of the protocols of the lines."""
    measured = {name for protocol in summary.protocol.unique() for name in get_protocol(protocol).metrics}
    return [metric for name, metric in METRICS.items() if name in measured]


def _meaning(summary: pd.DataFrame) -> str:
    metrics, methods = _measured(summary), set(summary.method)
    lower = ", ".join(metric.title for metric in metrics if metric.better == "lower")
    paired = "\n* PSNR - block_k: paired by image and seed, with its 95 % interval."
    return _MEANING.format(
        metrics=", ".join(metric.title for metric in metrics),
        lower=f"; lower is better for {lower}" if lower else "",
        unranked="".join(f" `{name}` is not ranked: {why}." for name, why in UNRANKED.items() if name in methods),
        paired=paired if METRICS["psnr"] in metrics else "",
    )


_MEANING = """\
## What the numbers mean

* {metrics}: mean over seeds of the mean over images and degradations, ± standard deviation over seeds{lower}.
* Bold: the best score of a column; underlined: the second best; scores that look the same share the mark. Whether their
  difference is more than chance, its interval says.{unranked}{paired}
* steps: all optimiser steps. LoRun's pretraining is included, also if it was done in a different task or setting.
* training: counted floating-point operations of all these steps, forward and backward, / 10^12; – if not recorded.
* network: parameters without the operator (sampling matrix and initial reconstruction), which all methods share.
* MB (10^6 bytes): live tensor bytes at the peak, counted, the same on every machine.
* GFLOPs: 2 x multiply-adds of one reconstruction / 10^9.
* `runs.csv` says where each number comes from. docs/tables.md explains every file and column.
"""

_NOTES = {
    "differences": """
* PSNR of the first method minus that of the second, paired by image and seed, with the 95 % interval over images and
  seeds. better, worse: the interval is above 0, or below. With one seed it says nothing about other seeds, with one
  image nothing about other images.
* least: the smallest true difference that so many images and seeds would show in 80 % of repetitions.
""",
    "tuning": """
* Short trainings, scored on validation images. adapter_rate: the adapters' learning rate, as a multiple of the common
  one.
* edge: whether the choice is the lowest or the highest value of the grid, so that a better one may lie outside.
""",
    "comparison": """
* reproduced, off: the authors' weights, measured the same way; within the tolerance or not. other training: we trained
  the weights, so the published score is for orientation. protocol unknown: the source does not say how it measured.
* Scores of different operators (a fixed and a learned Phi), or under different protocols, cannot be ranked.
""",
}


def _mean(row: pd.Series, name: str, digits: int) -> Cell:
    return spread(row[name], row[f"{name}_sd"], digits)


def _by_metric(row: pd.Series, name: str) -> Cell:
    return _mean(row, name, METRICS[row.metric].digits)


def difference(row: pd.Series) -> Cell:
    """A difference in dB with its interval, if there is one."""
    limits = "" if pd.isna(row.low) else f" [{row.low:+.2f}, {row.high:+.2f}]"
    return cell(row["mean"], lambda mean: f"{mean:+.2f}{limits}")


def _status(row: pd.Series) -> Cell:
    return cell(f"{row.status} {integer(row.seeds).text}/{integer(row.seeds_planned).text}")


def _score(name: str, more: int = 0) -> Column:
    """A score in the metric of its row, with `more` decimals than usual."""
    return Column(name, lambda row: decimal(row[name], METRICS[row.metric].digits + more))


_DATASET = Column("dataset", lambda row: cell(shown(row.dataset, row.simulated)))

DIFFERENCE = "PSNR - block_k (dB)"

COSTS: Sequence[Column] = [
    column("steps", "steps", integer),
    column("training_flops", "training (TFLOP)", decimal, digits=3, unit=1e12, form="g"),
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
    Column("metric", lambda row: cell(METRICS[row.metric].heading)),
    *(Column(name, partial(_by_metric, name=name)) for name in COMPARED),
    column("bytes_base", "bytes of the base", integer),
    column("bytes_added", "added by adapters", integer),
    column("bytes_full", "full network", integer),
]

DIFFERENCES: Sequence[Column] = [
    column("task"),
    _DATASET,
    column("setting"),
    Column("methods", lambda row: cell(f"{row.method} - {row.reference}")),
    Column("difference (dB)", difference),
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
    Column("source", lambda row: cell(f"{row.source} ({row.confidence})")),
]
