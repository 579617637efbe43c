"""The tables that people read, as Markdown."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd

from lorun.evaluation.metrics import METRICS
from lorun.evaluation.protocols import get_protocol
from lorun.profiles import Profile
from lorun.results.published import published_methods, published_scores
from lorun.results.summary import shown
from lorun.results.tasks import WAYS, tasks, together

_NONE = "–"


def render(profile: Profile, summary: pd.DataFrame, claims: pd.DataFrame, compared: pd.DataFrame) -> str:
    """The page `summary.md` of a result set: scores under the leading protocol beside their costs, what tasks cost that
    share a base, the claims, and the comparison with published scores."""
    parts = [f"# Results of the `{profile.profile}` profile\n"]
    for title, of, one in _sections(summary):
        main = of[of.protocol == _leading(profile, of)]
        heading = profile.tasks[one["task"]].physics_of(one["setting"]).heading
        count = "" if one["m"] is None else f"m = {_integer(one['m'])} per block, "
        parts.append(
            f"## {title}\n\n{heading[0].upper()}{heading[1:]}, {count}"
            f"{_integer(of.images.max())} test images; scores under `{_leading(profile, of)}`, checkpoint policy "
            f"{_policies(main)}.\n"
            f"Bytes of a training step on {_integer(one['step_batch'])} patches of {_integer(one['step_patch'])} "
            f"pixels; inference and GFLOPs of one image of {_integer(one['image'])} pixels.\n"
        )
        parts.append(_table(main, [*_scores(main), *COSTS]))
    shared = tasks(profile, summary)
    if len(shared):
        parts.append("## One base for several tasks\n\n" + _table(shared, TASKS) + "\n" + _together(shared))
    if len(claims):
        parts.append("## The paper's claims\n\n" + _table(claims, CLAIMS))
    if len(compared):
        columns = [column for column in COMPARISON if column != _DEGRADATION or compared.degradation.notna().any()]
        parts.append("## Against published scores\n\n" + _table(compared, columns) + _VERDICTS)
    parts.append(_meaning(profile, summary))
    return "\n".join(parts)


def render_details(profile: Profile, summary: pd.DataFrame, degradations: pd.DataFrame) -> str:
    """The page `details.md`: scores under the other protocols and under each degradation, where there are any, with the
    published ones; parameters and bytes by kind."""
    parts = [f"# Results of the `{profile.profile}` profile in detail\n"]
    for title, of, one in _sections(summary):
        leading = _leading(profile, of)
        parts.append(f"## {title}\n")
        for protocol in of.protocol.unique():
            if protocol != leading:
                other = of[of.protocol == protocol]
                parts.append(f"Under `{protocol}`:\n\n" + _table(other, _scores(other)))
        section = (degradations[["task", "dataset", "setting"]] == of.iloc[0][["task", "dataset", "setting"]]).all(
            axis=1
        )
        parts += _degradation_tables(profile, degradations[section])
        main = of[of.protocol == leading]
        parts.append("Parameters:\n\n" + _table(main, PARAMETERS))
        parts.append(
            f"Live bytes at the peak of a training step on {_integer(one['step_batch'])} patches of "
            f"{_integer(one['step_patch'])} pixels (MB):\n\n" + _table(main, BYTES)
        )
    return "\n".join(parts)


def _sections(summary: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, dict[Any, Any]]]:
    """Each task, dataset and setting: its title, its lines, and what all methods share."""
    for (task, dataset, setting), of in summary.groupby(["task", "dataset", "setting"], sort=False):
        title = f"{task}, {shown(str(dataset), of.simulated.iloc[0])}, {setting}"
        # What all share, from the first that has it: a failed one knows little.
        yield title, of, {column: next(iter(of[column].dropna()), None) for column in of}


def _degradation_tables(profile: Profile, degradations: pd.DataFrame) -> Iterator[str]:
    """A table per protocol and metric of one section: a line per method, a column per degradation; a published line
    below that of the method that it is of, others at the end."""
    for (protocol, name), of in degradations.groupby(["protocol", "metric"], sort=False):
        one = of.iloc[0]
        published = _published_lines(profile, one)
        lines = []
        for method, scores in of.groupby("method", sort=False):
            lines.append({"method": method, **dict(zip(scores.degradation, scores["value"], strict=True))})
            lines += published.pop(str(method), [])
        lines += [line for rest in published.values() for line in rest]
        metric = METRICS[str(name)]
        show = _decimals(metric.digits)
        columns = [
            ("method", _column("method", _text)),
            *((degradation, _column(degradation, show)) for degradation in of.degradation.unique()),
        ]
        yield f"{metric.heading} under each degradation, `{protocol}`:\n\n" + _table(pd.DataFrame(lines), columns)


def _published_lines(profile: Profile, one: pd.Series) -> dict[str, list[dict[str, Any]]]:
    """Lines of published scores by their method, for the dataset, setting, protocol and metric of one degradation's."""
    physics = profile.tasks[one.task].physics_of(one.setting)
    found: dict[str, list[dict[str, Any]]] = {}
    for method in published_methods(one.task, one.dataset, physics):
        lines: dict[str, dict[str, Any]] = {}
        for score in published_scores(one.task, one.dataset, method, physics):
            value = getattr(score, one.metric, None)
            if score.degradation is not None and score.protocol == one.protocol and value is not None:
                line = lines.setdefault(score.source, {"method": f"{method} ({score.source})"})
                line.setdefault(score.degradation, value)
        found[method] = list(lines.values())
    return found


def _together(shared: pd.DataFrame) -> str:
    return "".join(
        f"* The base {one['base']} and what {one['settings']} settings add to it take {_integer(one['shared'])} bytes "
        f"(float32), as many networks of their own {_integer(one['full'])}.\n"
        for one in together(shared)
    )


def _policies(of: pd.DataFrame) -> str:
    """The checkpoint policies of the lines: one for all, or which methods have which."""
    methods = of.dropna(subset=["checkpoint_policy"]).groupby("checkpoint_policy", sort=False).method
    if len(methods) < 2:
        return f"`{next(iter(methods.groups), _NONE)}`"
    return ", ".join(f"`{policy}` ({', '.join(names)})" for policy, names in methods)


def _leading(profile: Profile, of: pd.DataFrame) -> str:
    return profile.tasks[str(of.task.iloc[0])].evaluation.protocols[0]


def _meaning(profile: Profile, summary: pd.DataFrame) -> str:
    scored = [METRICS[name] for name in _measured(summary)]
    lower = [metric.title for metric in scored if metric.better == "lower"]
    which = f"; less is better in {_listed(lower)}" if lower else ""
    more = _RESIDUAL if METRICS["residual"] in scored else ""
    settings = [task.physics_of(setting) for task in profile.tasks.values() for setting in task.settings]
    means = " and kernels" if any(physics.degradations for physics in settings) else ""
    return _MEANING.format(_listed([metric.title for metric in scored]), means, which, more)


def _listed(names: list[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


_MEANING = """\
## What the figures mean

* {}: mean over seeds of the mean over images{}, ± standard deviation over seeds{}.
{}\
* steps: optimiser steps in all; LoRun's pretraining is part of them, also where another task or setting had it.
* network: parameters without the operator (sampling matrix and initial estimate), which is the same for all.
* MB (10^6 bytes) are live tensor bytes at the peak, counted storage by storage, the same on every machine: no
  allocator rounding, no kernel workspaces. The step is the one that the training makes, with its optimiser,
  clipping and precision, and with recomputed stages where details.md says so.
* GFLOPs: 2 x multiply-adds of one reconstruction / 10^9.
* Where each number comes from stands in its row of `rows.csv`: code, configuration, data, weights, seed, machine.
"""

_RESIDUAL = """\
* residual: ||A x - y|| / ||y||, what an estimate leaves unexplained of its measurement. A small one makes no good
  image: many explain a measurement exactly, the estimate of least norm among them.
"""


_VERDICTS = """
* reproduced, off: the authors' weights, measured the same way; within the tolerance or not. other training: the
  weights are of this suite's budget, so the published score is a landmark. protocol unknown: the source does not say.
* Scores of different operators (of a fixed and of a learned Phi), or under different protocols, do not rank against
  each other.
"""


def _integer(value: Any) -> str:
    return _NONE if pd.isna(value) else f"{int(value):,}".replace(",", " ")


def _text(value: Any) -> str:
    return _NONE if pd.isna(value) else str(value)


def _decimals(digits: int) -> Callable[[Any], str]:
    return lambda value: _NONE if pd.isna(value) else f"{value:.{digits}f}"


def _scaled(unit: float, digits: int) -> Callable[[Any], str]:
    return lambda value: _NONE if pd.isna(value) else f"{value / unit:.{digits}f}"


def _spread(name: str, digits: int) -> Callable[[pd.Series], str]:
    def show(row: pd.Series) -> str:
        if pd.isna(row[name]):
            return _NONE
        sd = row[f"{name}_sd"]
        return f"{row[name]:.{digits}f}" + ("" if pd.isna(sd) else f" ± {sd:.{digits}f}")

    return show


def _way(way: str) -> Callable[[pd.Series], str]:
    return lambda row: _spread(way, METRICS[row.metric].digits)(row)


def _column(name: str, show: Callable[[Any], str]) -> Callable[[pd.Series], str]:
    return lambda row: show(row[name])


Columns = Sequence[tuple[str, Callable[[pd.Series], str]]]


def _measured(summary: pd.DataFrame) -> list[str]:
    """The metrics that the lines have a value of, or that their protocols have."""
    planned = {metric for protocol in summary.protocol.unique() for metric in get_protocol(protocol).metrics}
    return [metric for metric in METRICS if metric in planned or summary[metric].notna().any()]


def _scores(lines: pd.DataFrame) -> Columns:
    return [
        ("method", _column("method", _text)),
        *((METRICS[metric].heading, _spread(metric, METRICS[metric].digits)) for metric in _measured(lines)),
        ("status", lambda row: f"{row.status} {_integer(row.seeds)}/{_integer(row.seeds_planned)}"),
    ]


COSTS: Columns = [
    ("steps", _column("steps", _integer)),
    ("network", _column("parameters_network", _integer)),
    ("trainable", _column("parameters_trainable", _integer)),
    ("step (MB)", _column("step_total", _scaled(1e6, 1))),
    ("inference (MB)", _column("inference_total", _scaled(1e6, 2))),
    ("GFLOPs", _column("flops", _scaled(1e9, 2))),
]

PARAMETERS: Columns = [
    ("method", _column("method", _text)),
    ("K", _column("stages", _integer)),
    ("operator", _column("parameters_operator", _integer)),
    ("base", _column("parameters_base", _integer)),
    ("adapters", _column("parameters_adapters", _integer)),
    ("step sizes", _column("parameters_step_sizes", _integer)),
    ("other", _column("parameters_other", _integer)),
    ("network", _column("parameters_network", _integer)),
    ("published", _column("parameters_published", _integer)),
]

BYTES: Columns = [
    ("method", _column("method", _text)),
    ("recompute", _column("step_recompute", _text)),
    ("parameters", _column("step_parameters", _scaled(1e6, 2))),
    ("gradients", _column("step_gradients", _scaled(1e6, 2))),
    ("optimiser", _column("step_optimiser", _scaled(1e6, 2))),
    ("activations", _column("step_activations", _scaled(1e6, 1))),
    ("other", _column("step_other", _scaled(1e6, 1))),
    ("total", _column("step_total", _scaled(1e6, 1))),
    ("in the", _column("step_phase", _text)),
]

TASKS: Columns = [
    ("task", _column("task", _text)),
    ("dataset", lambda row: shown(row.dataset, row.simulated)),
    ("setting", _column("setting", _text)),
    ("base", _column("base", _text)),
    ("metric", lambda row: METRICS[row.metric].heading),
    *((way, _way(way)) for way in WAYS),
    ("bytes of the base", _column("bytes_base", _integer)),
    ("added by adapters", _column("bytes_added", _integer)),
    ("full network", _column("bytes_full", _integer)),
]

CLAIMS: Columns = [
    ("task", _column("task", _text)),
    ("dataset", lambda row: shown(row.dataset, row.simulated)),
    ("setting", _column("setting", _text)),
    ("K", _column("stages", _integer)),
    ("claim", _column("claim", _text)),
    ("published", _column("published", _decimals(3))),
    ("ours", _column("ours", _decimals(3))),
    ("delta", _column("delta", _decimals(3))),
]


_DEGRADATION = ("degradation", _column("degradation", _text))

COMPARISON: Columns = [
    ("method", _column("method", _text)),
    ("dataset", lambda row: shown(row.dataset, row.simulated)),
    ("setting", _column("setting", _text)),
    ("operator", _column("operator", _text)),
    ("protocol", _column("protocol", _text)),
    ("metric", _column("metric", _text)),
    _DEGRADATION,
    ("published", lambda row: _score(row.metric)(row.published)),
    ("ours", lambda row: _score(row.metric)(row.ours)),
    ("delta", lambda row: _score(row.metric, 1)(row.delta)),
    ("tolerance", lambda row: _score(row.metric)(row.tolerance)),
    ("verdict", _column("verdict", _text)),
    ("source", lambda row: f"{row.source} ({row.confidence})"),
]


def _score(metric: str, more: int = 0) -> Callable[[Any], str]:
    return _decimals(METRICS[metric].digits + more)


def _table(frame: pd.DataFrame, columns: Columns) -> str:
    """A Markdown table whose columns also line up in a terminal."""
    cells = [[title for title, _ in columns]]
    cells += [[show(row) for _, show in columns] for _, row in frame.iterrows()]
    widths = [max(4, *(len(line[column]) for line in cells)) for column in range(len(columns))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [[line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in [lines[0], rule, *lines[1:]])
