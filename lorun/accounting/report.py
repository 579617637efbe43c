"""An account as text: what a step and a reconstruction would take, by kind."""

from collections.abc import Mapping
from typing import Any

from lorun.config import Recompute

_KINDS = ("parameters", "gradients", "optimiser", "activations", "other", "total")


def render(record: Mapping[str, Any], largest: Mapping[Recompute, int] | None = None) -> str:
    """MB (10^6 bytes) at the peak, a column each for the step with all activations kept, the step with its stages
    recomputed, and the reconstruction; `largest` adds the largest batch of either step that fits a budget."""
    said = {"kept": "recompute none", "recomputed": "recompute stage", "inference": "inference"}
    shown = {of: title for of, title in said.items() if record[f"{of}_total"] is not None}
    lines = [["MB at the peak", *shown.values()]]
    lines += [[kind, *(f"{record[f'{of}_{kind}'] / 1e6:.2f}" for of in shown)] for kind in _KINDS]
    lines.append(["in the", *(record[f"{of}_phase"] for of in shown)])
    if largest is not None:
        by_column = {"kept": largest.get("none"), "recomputed": largest.get("stage")}
        lines.append(["largest batch", *("" if by_column.get(of) is None else str(by_column[of]) for of in shown)])
    return "\n".join("".join([line[0].ljust(14), *(f"{cell:>17}" for cell in line[1:])]).rstrip() for line in lines)
