"""Summary tables: a row per dataset, setting, method and protocol: scores, spread over seeds, counts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from lorun.config import STRATEGIES, TRANSFER, Profile, TaskConfig
from lorun.results.published import lorun_claims, matrix_kind

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


def summarise(profile: Profile, rows: pd.DataFrame, accounts: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row per (task, dataset, setting, method, protocol), in the order of the profile.

    `psnr` (dB) and `ssim` are means over seeds of the mean over images; `*_sd` is the standard deviation over seeds
    (null for one seed). `seeds` counts the completed ones; `status` is the worst among them.
    """
    counted = {(a["task"], a["setting"], a["method"]): a for a in accounts}
    groups = dict(list(rows.groupby(["task", "setting", "dataset", "protocol", "method"], sort=False)))
    nothing = rows.iloc[:0]
    records = []
    for task_name, task, setting, dataset, protocol, method in _lines(profile):
        physics = task.physics_of(setting)
        account = counted.get((task_name, setting, method), {})
        records.append(
            {
                "task": task_name,
                "dataset": dataset,
                "setting": setting,
                "ratio": physics.ratio,
                "matrix": matrix_kind(physics),
                "protocol": protocol,
                "method": method,
                **_scores(groups.get((task_name, setting, dataset, protocol, method), nothing)),
                "parameters_published": _published_parameters(task_name, method, account),
                **{name: account.get(name) for name in COUNTS},
            }
        )
    frame = pd.DataFrame(records)
    for column in ("steps", "seeds", "seeds_planned", "images", "parameters_published", *COUNTS):
        if column not in _NAMES:
            frame[column] = frame[column].astype("Int64")
    return frame


def _lines(profile: Profile) -> Iterator[tuple[str, TaskConfig, str, str, str, str]]:
    """What there is a line of the summary for: task, setting, dataset, protocol, method."""
    for task_name, task in profile.tasks.items():
        for setting in task.settings:
            for dataset in task.data.test:
                for protocol in task.evaluation.protocols:
                    for method in task.methods_of(setting):
                        yield task_name, task, setting, dataset, protocol, method


def claims(profile: Profile, summary: pd.DataFrame) -> pd.DataFrame:
    """What the paper claims of LoRun against Block-K (`separate`), beside what was measured here; and LoRun on the base
    of another setting against LoRun, where both were measured.

    One row per claim and setting, for the first protocol: `published`, `ours`, `delta` (ours - published), null where
    one of the two methods has no figure.
    """
    records = []
    for (task, dataset, setting), of in summary.groupby(["task", "dataset", "setting"], sort=False):
        of = of[of.protocol == profile.tasks[str(task)].evaluation.protocols[0]].set_index("method")
        if not {"lorun", "separate"} <= set(of.index):
            continue
        lorun, separate = of.loc["lorun"], of.loc["separate"]
        said = lorun_claims(str(task))
        measured: list[tuple[str, str, float | None, Any]] = [
            (
                "parameters, LoRun / Block-K",
                "ratio",
                said["params_M"] / said["block9_params_M"] if "block9_params_M" in said else None,
                _ratio(lorun.parameters_network, separate.parameters_network),
            ),
            (
                "peak bytes of a training step, LoRun / Block-K",
                "ratio",
                0.30,
                _ratio(lorun.step_total, separate.step_total),
            ),
            (
                "peak bytes of inference, LoRun / Block-K",
                "ratio",
                None,
                _ratio(lorun.inference_total, separate.inference_total),
            ),
            ("PSNR, LoRun - Block-K (on par or above)", "dB", 0.0, _delta(lorun.psnr, separate.psnr)),
        ]
        if TRANSFER in of.index:
            other = of.loc[TRANSFER]
            measured.append(
                ("PSNR, LoRun on another setting's base - LoRun", "dB", None, _delta(other.psnr, lorun.psnr))
            )
        for claim, unit, published, ours in measured:
            records.append(
                {
                    "task": task,
                    "dataset": dataset,
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
        columns=["task", "dataset", "setting", "stages", "claim", "unit", "published", "ours", "delta"],
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
    for metric in ("psnr", "ssim"):
        values = by_seed.get(metric, pd.Series(dtype=float))
        found[metric] = round(float(values.mean()), 6) if len(values) else None
        found[f"{metric}_sd"] = round(float(values.std(ddof=1)), 6) if len(values) > 1 else None
    return found


def _worst(statuses: list[str]) -> str:
    for status in ("failed", "not_run", "diverged", "out_of_memory"):
        if status in statuses:
            return status
    return "completed" if statuses else "not_run"


def _published_parameters(task: str, method: str, account: Mapping[str, Any]) -> int | None:
    """Parameters that the source of `method` reports, where it speaks of as many stages; without the operator."""
    millions = None
    said = lorun_claims(task)
    if method in STRATEGIES:
        if account.get("stages") == said["stages"]:
            millions = {"lorun": said.get("params_M"), "separate": said.get("block9_params_M")}.get(method)
    else:
        import baselines

        return baselines.card(method).published_network_parameters
    return None if millions is None else round(millions * 1e6)


def _delta(ours: Any, published: Any) -> float | None:
    return None if pd.isna(ours) or pd.isna(published) else round(float(ours) - float(published), 6)


def _ratio(above: Any, below: Any) -> float | None:
    return None if pd.isna(above) or pd.isna(below) else round(float(above) / float(below), 6)
