"""The tables that people read: summary and claims as Markdown, with what each figure means."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from lorun.config import Profile

_NONE = "–"


def render(profile: Profile, summary: pd.DataFrame, claims: pd.DataFrame) -> str:
    """The whole page `summary.md` of a result set."""
    parts = [f"# Results of the `{profile.profile}` profile\n"]
    for (task, dataset, setting), of in summary.groupby(["task", "dataset", "setting"], sort=False):
        first = profile.tasks[str(task)].evaluation.protocols[0]
        one = of.iloc[0]
        parts.append(
            f"## {task}, {dataset}, {setting}\n\nRatio {one.ratio:g} %, m = {_integer(one.m)} per block, Phi "
            f"{one.matrix}, {_integer(one.images)} test images.\n"
        )
        parts.append(_table(of[of.protocol == first], SCORES))
        parts.append(f"Scores under `{first}`; checkpoint policy `{one.checkpoint_policy}`.\n")
        for protocol in of.protocol.unique():
            if protocol != first:
                parts.append(f"Under `{protocol}`:\n\n" + _table(of[of.protocol == protocol], SCORES[:4]))
        parts.append(
            f"Counted, not timed: a training step on {_integer(one.step_batch)} patches of {_integer(one.step_patch)} "
            f"pixels, a reconstruction of one image of {_integer(one.image)} pixels.\n"
        )
        parts.append(_table(of[of.protocol == first], ACCOUNTS))
    if len(claims):
        parts.append("## The paper's claims\n\n" + _table(claims, CLAIMS))
    parts.append(_MEANING)
    return "\n".join(parts)


_MEANING = """\
## What the figures mean

* PSNR and SSIM: mean over seeds of the mean over images, ± standard deviation over seeds.
* steps: optimiser steps in all; LoRun's pretraining is part of them, so every trained method had the same number.
* network: parameters without the operator (sampling matrix and initial estimate), which is the same for all.
* MB (10^6 bytes) are live tensor bytes at the peak, counted storage by storage, the same on every machine: no
  allocator rounding, no kernel workspaces. Training in float32 with Adam.
* GFLOPs: 2 x multiply-adds of one reconstruction / 10^9.
* Where each number comes from stands in its row of `rows.csv`: code, configuration, data, weights, seed, machine.
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


def _column(name: str, show: Callable[[Any], str]) -> Callable[[pd.Series], str]:
    return lambda row: show(row[name])


Columns = Sequence[tuple[str, Callable[[pd.Series], str]]]

SCORES: Columns = [
    ("method", _column("method", _text)),
    ("PSNR (dB)", _spread("psnr", 2)),
    ("SSIM", _spread("ssim", 4)),
    ("status", lambda row: f"{row.status} {_integer(row.seeds)}/{_integer(row.seeds_planned)}"),
    ("published", _column("psnr_published", _decimals(2))),
    ("delta", _column("psnr_delta", _decimals(2))),
    ("steps", _column("steps", _integer)),
    ("network", _column("parameters_network", _integer)),
    ("trainable", _column("parameters_trainable", _integer)),
    ("step peak (MB)", _column("step_total", _scaled(1e6, 1))),
]

ACCOUNTS: Columns = [
    ("method", _column("method", _text)),
    ("K", _column("stages", _integer)),
    ("operator", _column("parameters_operator", _integer)),
    ("base", _column("parameters_base", _integer)),
    ("adapters", _column("parameters_adapters", _integer)),
    ("step sizes", _column("parameters_step_sizes", _integer)),
    ("other", _column("parameters_other", _integer)),
    ("published network", _column("parameters_published", _integer)),
    ("step: parameters (MB)", _column("step_parameters", _scaled(1e6, 2))),
    ("gradients", _column("step_gradients", _scaled(1e6, 2))),
    ("optimiser", _column("step_optimiser", _scaled(1e6, 2))),
    ("activations", _column("step_activations", _scaled(1e6, 1))),
    ("others", _column("step_other", _scaled(1e6, 1))),
    ("inference peak (MB)", _column("inference_total", _scaled(1e6, 2))),
    ("GFLOPs", _column("flops", _scaled(1e9, 2))),
]

CLAIMS: Columns = [
    ("task", _column("task", _text)),
    ("setting", _column("setting", _text)),
    ("K", _column("stages", _integer)),
    ("claim", _column("claim", _text)),
    ("published", _column("published", _decimals(3))),
    ("ours", _column("ours", _decimals(3))),
    ("delta", _column("delta", _decimals(3))),
]


def _table(frame: pd.DataFrame, columns: Columns) -> str:
    lines = ["| " + " | ".join(title for title, _ in columns) + " |"]
    lines.append("|---" + "|---:" * (len(columns) - 1) + "|")
    lines += ["| " + " | ".join(show(row) for _, show in columns) + " |" for _, row in frame.iterrows()]
    return "\n".join(lines) + "\n"
