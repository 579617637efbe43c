"""The summary, a line per dataset, setting, protocol and method; scores under each degradation; the paper's claims."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import product
from typing import Any

import pandas as pd

from lorun import plugins
from lorun.evaluation.metrics import METRICS
from lorun.evaluation.protocols import get_protocol
from lorun.profiles import Profile
from lorun.profiles.trials import edge
from lorun.results.published import lorun_claims
from lorun.results.store import METHOD, PLACE, ResultSet, grouped, make_table

COUNTS = (
    *("stages", "m"),
    *(f"parameters_{kind}" for kind in ("operator", "base", "adapters", "step_sizes", "other")),
    *("parameters_network", "parameters_total", "parameters_trainable"),
    *("step_batch", "step_patch", "step_precision", "step_recompute", "step_total", "step_phase"),
    *(f"step_{kind}" for kind in ("parameters", "gradients", "optimiser", "activations", "other")),
    *("image", "inference_total", "inference_parameters", "inference_activations", "flops"),
)
"""Fields of an account that the summary repeats: bytes unless named otherwise; FLOPs are 2 x multiply-adds."""

BY_DEGRADATION = ("task", "dataset", "setting", "method", "protocol", "metric", "degradation")
"""What identifies a line of degradations.csv."""

PARAMETERS = "parameters, LoRun / Block-K"
STEP_MEMORY = "peak memory of a training step, LoRun / Block-K"
RATIOS = {
    PARAMETERS: ("parameter_ratio", "parameters_network"),
    STEP_MEMORY: ("step_memory_ratio", "step_total"),
    "peak memory of inference, LoRun / Block-K": ("inference_memory_ratio", "inference_total"),
}
"""Claims that are ratios: the paper's number (`lorun_claims`), and the column of the summary."""


def summarise(profile: Profile, results: ResultSet, simulated: Collection[str] = ()) -> pd.DataFrame:
    """One row per (task, dataset, setting, protocol, method), in the order of the profile.

    Each metric of the profile's protocols has a column: the mean over seeds of the mean over images and degradations,
    null if the line's protocol lacks it; `*_sd` is the standard deviation over seeds (null for one). Only operators of
    the same kind (`operator`) can be ranked. `simulated` names the datasets that are. `seeds` counts completed runs;
    `status` is the worst of all.
    """
    accounts = {tuple(line[name] for name in METHOD): line for line in results.accounting.to_dict("records")}
    runs, rows = grouped(results.runs, METHOD), grouped(results.rows, (*METHOD, "dataset", "protocol"))
    protocols = {name for task in profile.tasks.values() for name in task.evaluation.protocols}
    measured = {metric for name in protocols for metric in get_protocol(name).metrics}
    metrics = [metric for metric in METRICS if metric in measured]
    no_runs, no_rows = results.runs.iloc[:0], results.rows.iloc[:0]
    records = []
    for line in _lines(profile, simulated):
        key = tuple(line[name] for name in METHOD)
        account: Mapping[Any, Any] = accounts.get(key, {})
        scored = rows.get((*key, line["dataset"], line["protocol"]), no_rows)
        records.append(
            {
                **line,
                **_scores(runs.get(key, no_runs), scored, metrics),
                "parameters_published": _published_parameters(profile, line, account),
                **{name: account.get(name) for name in COUNTS},
            }
        )
    return make_table("summary", records)


def by_degradation(profile: Profile, results: ResultSet, simulated: Collection[str] = ()) -> pd.DataFrame:
    """One row per line of the summary, metric and degradation of its operator; none for operators without degradations.

    `value` is the mean over seeds of the mean over images, `sd` the standard deviation over seeds (null for one),
    `seeds` and `images` count what was scored. Without a result `value` is null.
    """
    groups = grouped(results.rows, BY_DEGRADATION)
    records = []
    for line in _lines(profile, simulated):
        physics = profile.tasks[line["task"]].physics_of(line["setting"])
        for metric, degradation in product(get_protocol(line["protocol"]).metrics, physics.degradations):
            line |= {"metric": metric, "degradation": degradation}
            rows = groups.get(tuple(line[name] for name in BY_DEGRADATION), results.rows.iloc[:0])
            value, sd = spread(rows.groupby("seed")["value"].mean())
            counts = {"seeds": rows.seed.nunique(), "images": rows.image.nunique()}
            records.append({**line, "value": value, "sd": sd, **counts})
    return make_table("degradations", records)


def _lines(profile: Profile, simulated: Collection[str]) -> Iterator[dict[str, Any]]:
    """What identifies each line of the summary, and what is known of it before anything is run."""
    for task_name, task in profile.tasks.items():
        for setting in task.settings:
            kind, methods = task.physics_of(setting).kind, task.methods_of(setting)
            for dataset, protocol, method in product(task.data.test, task.evaluation.protocols, methods):
                line = {"task": task_name, "dataset": dataset, "simulated": dataset in simulated, "setting": setting}
                yield {**line, "operator": kind, "protocol": protocol, "method": method}


def choices(tuning: pd.DataFrame) -> pd.DataFrame:
    """What tuning chose: the chosen trials, each with the values that were tried (`grid`) and whether the choice is at
    an `edge` of them: "lowest", "highest" or "no"."""
    chosen = tuning[tuning.chosen.astype(bool)]
    tried = tuning.groupby(["task", "method"])["value"].apply(lambda values: sorted(set(values)))
    grids = [tried[place] for place in zip(chosen.task, chosen.method, strict=True)]
    return chosen.assign(
        grid=[", ".join(f"{value:g}" for value in grid) for grid in grids],
        edge=[edge(value, grid) for value, grid in zip(chosen["value"], grids, strict=True)],
    )


def leading(summary: pd.DataFrame) -> pd.DataFrame:
    """The lines of the summary under the leading protocol of their place, which comes first."""
    first = summary.groupby(list(PLACE), sort=False).protocol.transform("first")
    return summary[summary.protocol == first]


def shown(dataset: str, simulated: bool) -> str:
    """A dataset as tables and figures call it, so that simulated scenes are not taken for captured ones."""
    return f"{dataset} (simulated)" if simulated else dataset


def spread(values: pd.Series) -> tuple[float | None, float | None]:
    """Mean and standard deviation (n - 1) of a value per seed; None if there are too few."""
    mean = round(float(values.mean()), 6) if len(values) else None
    return mean, round(float(values.std(ddof=1)), 6) if len(values) > 1 else None


def claims(profile: Profile, summary: pd.DataFrame) -> pd.DataFrame:
    """What the paper claims for LoRun against Block-K, and what we measured; also LoRun on the base of a different
    setting or task against LoRun.

    One row per claim, dataset and setting, for the leading metric of the first protocol: `published`, `ours`, `delta`
    (ours - published), null if one of the two methods has no value. The paper speaks of PSNR only.
    """
    records = []
    for (task, dataset, setting), lines in grouped(leading(summary), PLACE).items():
        methods = lines.set_index("method")
        if not {"lorun", "block_k"} <= set(methods.index):
            continue
        lorun, block_k = methods.loc["lorun"], methods.loc["block_k"]
        metric = METRICS[get_protocol(lines.protocol.iloc[0]).metrics[0]]
        paper = lorun_claims(task)
        on_par = f"on par or {'above' if metric.better == 'higher' else 'below'}"
        found: list[tuple[str, str, float | None, float | None]] = [
            (claim, "ratio", paper.get(key), _ratio(lorun[column], block_k[column]))
            for claim, (key, column) in RATIOS.items()
        ]
        published, difference = paper.get(f"{metric.name}_difference"), _delta(lorun[metric.name], block_k[metric.name])
        found.append((f"{metric.title}, LoRun - Block-K ({on_par})", metric.unit, published, difference))
        if "lorun_transfer" in methods.index:
            difference = _delta(methods.loc["lorun_transfer"][metric.name], lorun[metric.name])
            base = "setting" if profile.tasks[task].base["lorun_transfer"].task is None else "task"
            found.append((f"{metric.title}, LoRun on another {base}'s base - LoRun", metric.unit, None, difference))
        where = {"task": task, "dataset": dataset, "simulated": lorun.simulated, "setting": setting}
        where["stages"] = lorun.stages
        records += [
            {
                **where,
                "claim": claim,
                "unit": unit,
                "published": published,
                "ours": ours,
                "delta": _delta(ours, published),
            }
            for claim, unit, published, ours in found
        ]
    return make_table("claims", records)


def _scores(runs: pd.DataFrame, rows: pd.DataFrame, metrics: Iterable[str]) -> dict[str, Any]:
    """Means and spreads of one line of the summary, and how its runs ended."""
    by_seed = rows.groupby(["metric", "seed"])["value"].mean()
    scored = set(rows["seed"])
    statuses = [
        "not_run" if run.status == "completed" and run.seed not in scored else run.status for run in runs.itertuples()
    ]
    order = ("failed", "not_run", "diverged", "out_of_memory", "completed")  # the worst first
    found: dict[str, Any] = {
        "status": min(statuses, key=order.index, default="not_run"),
        "seeds": len(scored),
        "seeds_planned": len(runs),
        "images": rows["image"].nunique(),
        "steps": runs["steps"].max(),
        "training_flops": runs["training_flops"].max(),
        "checkpoint_policy": " ".join(sorted(runs["checkpoint_policy"].dropna().unique())) or None,
    }
    for metric in metrics:
        found[metric], found[f"{metric}_sd"] = spread(by_seed.get(metric, pd.Series(dtype=float)))
    return found


def _published_parameters(profile: Profile, line: Mapping[str, Any], account: Mapping[Any, Any]) -> int | None:
    """Parameters without the operator that the source of a method reports, for the same number of stages."""
    located, method = profile.tasks[line["task"]].located, line["method"]
    if method in located:
        return plugins.card(located[method].reference).published_network_parameters
    paper = lorun_claims(line["task"])
    millions = {"lorun": paper.get("params_M"), "block_k": paper.get("block9_params_M")}.get(method)
    return None if millions is None or account.get("stages") != paper["stages"] else round(millions * 1e6)


def _delta(ours: Any, published: Any) -> float | None:
    return None if pd.isna(ours) or pd.isna(published) else round(float(ours) - float(published), 6)


def _ratio(above: Any, below: Any) -> float | None:
    return None if pd.isna(above) or pd.isna(below) else round(float(above) / float(below), 6)
