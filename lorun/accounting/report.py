"""An account as text: the bytes of a step and of a reconstruction, by kind."""

from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from lorun.config import Recompute

_KINDS = ("parameters", "gradients", "optimiser", "activations", "other", "total")


def summarise(record: Mapping[str, Any]) -> str:
    """Parameters, bytes and FLOPs in one line."""
    step = "no training"
    if record["step_total"] is not None:
        step = (
            f"training step {record['step_total'] / 1e6:.1f} MB ({record['step_batch']} patches of "
            f"{record['step_patch']} pixels, {record['step_precision']}, recompute {record['step_recompute']})"
        )
    return (
        f"network {record['parameters_network']:,} parameters, {record['parameters_trainable']:,} trainable; {step}, "
        f"inference {record['inference_total'] / 1e6:.2f} MB, {record['flops'] / 1e9:.2f} GFLOPs"
    )


def render(record: Mapping[str, Any], largest: Mapping[Recompute, int] | None = None) -> str:
    """MB (10^6 bytes) at the peak: a column for the step that keeps all activations, one for the step that recomputes
    stages, and one for the reconstruction. `largest` adds the largest batches that fit a budget."""
    titles = {"kept": "recompute none", "recomputed": "recompute stage", "inference": "inference"}
    shown = {part: title for part, title in titles.items() if record[f"{part}_total"] is not None}
    lines = [[kind, *(f"{record[f'{part}_{kind}'] / 1e6:.2f}" for part in shown)] for kind in _KINDS]
    lines.append(["in the", *(record[f"{part}_phase"] for part in shown)])
    if largest is not None:
        batches = {"kept": largest.get("none"), "recomputed": largest.get("stage")}
        lines.append(["largest batch", *("" if batches.get(part) is None else str(batches[part]) for part in shown)])
    align = ["left", *("right" for _ in shown)]
    return tabulate(lines, ["MB at the peak", *shown.values()], "plain", disable_numparse=True, colalign=align)
