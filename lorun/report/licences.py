"""The licences of the datasets and baselines of a result set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorun import plugins
from lorun.data.registry import read_registry
from lorun.methods import PRESETS
from lorun.profiles import Profile

_UNKNOWN = "not registered"


def licences(profile: Profile, methods: Sequence[str], data: Path) -> list[dict[str, Any]]:
    """A row per dataset of `profile`, from the registry in `data`, and per baseline in `methods`, from its card."""
    registry = read_registry(data)
    rows = []
    for name in profile.datasets():
        entry = registry.get(name)
        if entry is None:
            rows.append(_row(name, "dataset"))
        else:
            what = f"{entry.role}; {entry.what}" + (" (simulated)" if entry.simulated else "")
            rows.append(_row(name, what, entry.licence, entry.redistribution, entry.citation, entry.sources))
    for name in methods:
        if name in plugins.names():
            card = plugins.card(name)
            what = f"baseline, our implementation: {card.title}"
            rows.append(_row(name, what, card.licence, card.redistribution, card.citation, [card.source]))
        elif name not in PRESETS:
            rows.append(_row(name, "baseline"))
    return rows


def _row(
    name: str,
    what: str,
    licence: str = _UNKNOWN,
    redistribution: str = _UNKNOWN,
    citation: str = _UNKNOWN,
    sources: Sequence[str] = (),
) -> dict[str, Any]:
    row = {"name": name, "what": what, "licence": licence, "redistribution": redistribution}
    return {**row, "citation": citation, "sources": sources}
