"""Summary tables: a row per dataset, setting, method and protocol: scores, spread over seeds, counts."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from lorun.evaluation.metrics import METRICS
from lorun.evaluation.protocols import get_protocol
from lorun.profiles import Profile, TaskConfig
from lorun.results.published import lorun_claims

COUNTS = (
    *("stages", "m"),
    *(f"parameters_{kind}" for kind in ("operator", "base", "adapters", "step_sizes", "other")),
    *("parameters_network", "parameters_total", "parameters_trainable"),
    *("step_batch", "step_patch", "step_precision", "step_recompute", "step_total", "step_phase"),
    *(f"step_{kind}" for kind in ("parameters", "gradients", "optimiser", "activations", "other")),
    *("image", "inference_total", "inference_parameters", "inference_activations", "flops"),
)
"""Fields of an account that a summary repeats: bytes unless named otherwise; FLOPs are 2 x multiply-adds."""

_NAMES = ("step_precision", "step_recompute", "step_phase")
"""Those that are no numbers."""


def summarise(
    profile: Profile, rows: pd.DataFrame, accounts: Sequence[Mapping[str, Any]], simulated: Collection[str] = ()
) -> pd.DataFrame:
    """One row per (task, dataset, setting, method, protocol), in the order of the profile.

    The column of a metric (`lorun.evaluation.metrics.METRICS`) is the mean over seeds of the mean over images and the
    operator's degradations, null where the protocol does not have it; `*_sd` is the standard deviation over seeds (null
    for one seed). `operator` is what may share a ranking; `simulated` says that the dataset is one of those. `seeds`
    counts the completed ones; `status` is the worst among them.
    """
    counted = {(a["task"], a["setting"], a["method"]): a for a in accounts}
    groups = dict(list(rows.groupby(["task", "setting", "dataset", "protocol", "method"], sort=False)))
    nothing = rows.iloc[:0]
    records = []
    for task_name, task, setting, dataset, protocol, method in summary_lines(profile):
        account = counted.get((task_name, setting, method), {})
        records.append(
            {
                "task": task_name,
                "dataset": dataset,
                "simulated": dataset in simulated,
                "setting": setting,
                "operator": task.physics_of(setting).kind,
                "protocol": protocol,
                "method": method,
                **_scores(groups.get((task_name, setting, dataset, protocol, method), nothing)),
                "parameters_published": _published_parameters(task_name, task, method, account),
                **{name: account.get(name) for name in COUNTS},
            }
        )
    frame = pd.DataFrame(records)
    for column in ("steps", "seeds", "seeds_planned", "images", "parameters_published", *COUNTS):
        if column not in _NAMES:
            frame[column] = frame[column].astype("Int64")
    return frame


def summary_lines(profile: Profile) -> Iterator[tuple[str, TaskConfig, str, str, str, str]]:
    """What there is a line of the summary for: task, setting, dataset, protocol, method."""
    for task_name, task in profile.tasks.items():
        for setting in task.settings:
            for dataset in task.data.test:
                for protocol in task.evaluation.protocols:
                    for method in task.methods_of(setting):
                        yield task_name, task, setting, dataset, protocol, method


def shown(dataset: str, simulated: bool) -> str:
    """A dataset as tables and figures call it: nobody shall take simulated scenes for captured ones."""
    return f"{dataset} (simulated)" if simulated else dataset


def claims(profile: Profile, summary: pd.DataFrame) -> pd.DataFrame:
    """What the paper claims of LoRun against Block-K (`block_k`), beside what was measured here; and LoRun on the base
    of another setting or task against LoRun, where both were measured.

    One row per claim, dataset and setting, for the leading metric of the first protocol: `published`, `ours`, `delta`
    (ours - published), null where one of the two methods has no figure. The paper speaks of PSNR alone.
    """
    records = []
    for (task, dataset, setting), of in summary.groupby(["task", "dataset", "setting"], sort=False):
        protocol = get_protocol(profile.tasks[str(task)].evaluation.protocols[0])
        of = of[of.protocol == protocol.name].set_index("method")
        if not {"lorun", "block_k"} <= set(of.index):
            continue
        metric = METRICS[protocol.metrics[0]]
        on_par = f"on par or {'above' if metric.better == 'higher' else 'below'}"
        lorun, block_k = of.loc["lorun"], of.loc["block_k"]
        said = lorun_claims(str(task))
        measured: list[tuple[str, str, float | None, Any]] = [
            (
                "parameters, LoRun / Block-K",
                "ratio",
                said["params_M"] / said["block9_params_M"] if "block9_params_M" in said else None,
                _ratio(lorun.parameters_network, block_k.parameters_network),
            ),
            (
                "peak bytes of a training step, LoRun / Block-K",
                "ratio",
                0.30,
                _ratio(lorun.step_total, block_k.step_total),
            ),
            (
                "peak bytes of inference, LoRun / Block-K",
                "ratio",
                None,
                _ratio(lorun.inference_total, block_k.inference_total),
            ),
            (
                f"{metric.title}, LoRun - Block-K ({on_par})",
                metric.unit,
                0.0 if metric.name == "psnr" else None,
                _delta(lorun[metric.name], block_k[metric.name]),
            ),
        ]
        if TRANSFER in of.index:
            other = of.loc[TRANSFER]
            cost = _delta(other[metric.name], lorun[metric.name])
            where = "setting" if profile.tasks[str(task)].base_task is None else "task"
            measured.append((f"{metric.title}, LoRun on another {where}'s base - LoRun", metric.unit, None, cost))
        for claim, unit, published, ours in measured:
            records.append(
                {
                    "task": task,
                    "dataset": dataset,
                    "simulated": lorun.simulated,
                    "setting": setting,
                    "stages": lorun.stages,
                    "claim": claim,
                    "unit": unit,
                    "published": published,
                    "ours": ours,
                    "delta": _delta(ours, published),
                }
            )
    return pd.DataFrame(
        records,
        columns=["task", "dataset", "simulated", "setting", "stages", "claim", "unit", "published", "ours", "delta"],
    )


def _scores(of: pd.DataFrame) -> dict[str, Any]:
    """Means and spreads of the rows of one line of the summary."""
    done = of[of.status == "completed"]
    by_seed = done.groupby(["metric", "seed"])["value"].mean()
    found: dict[str, Any] = {
        "status": _worst(of.drop_duplicates("seed").status.tolist()),
        "seeds": done.seed.nunique(),
        "seeds_planned": of.seed.nunique(),
        "images": done.image.nunique(),
        "steps": of.steps.max() if len(of) else None,
        "checkpoint_policy": " ".join(sorted(of.checkpoint_policy.dropna().unique())) or None,
    }
    for metric in METRICS:
        found[metric], found[f"{metric}_sd"] = spread(by_seed.get(metric, pd.Series(dtype=float)))
    return found


def spread(values: pd.Series) -> tuple[float | None, float | None]:
    """Mean and standard deviation of the values of so many seeds, as tables have them; None where there is none."""
    mean = round(float(values.mean()), 6) if len(values) else None
    return mean, round(float(values.std(ddof=1)), 6) if len(values) > 1 else None


def _worst(statuses: list[str]) -> str:
    for status in ("failed", "not_run", "diverged", "out_of_memory"):
        if status in statuses:
            return status
    return "completed" if statuses else "not_run"


def _published_parameters(name: str, task: TaskConfig, method: str, account: Mapping[str, Any]) -> int | None:
    """Parameters that the source of `method` reports, where it speaks of as many stages; without the operator."""
    millions = None
    said = lorun_claims(name)
    if method in NAMED:
        if account.get("stages") == said["stages"]:
            millions = {"lorun": said.get("params_M"), "block_k": said.get("block9_params_M")}.get(method)
    else:
        from lorun import plugins

        return plugins.card(task.reference_of(method)).published_network_parameters
    return None if millions is None else round(millions * 1e6)


def _delta(ours: Any, published: Any) -> float | None:
    return None if pd.isna(ours) or pd.isna(published) else round(float(ours) - float(published), 6)


def _ratio(above: Any, below: Any) -> float | None:
    return None if pd.isna(above) or pd.isna(below) else round(float(above) / float(below), 6)
