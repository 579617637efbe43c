"""The licences of the datasets and baselines of a result set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorun import plugins
from lorun.data.registry import entry_of
from lorun.methods import PRESETS
from lorun.profiles import Profile


def licences(profile: Profile, methods: Sequence[str], data: Path) -> list[dict[str, Any]]:
    """A row per dataset of `profile`, from the registry in `data`, and per baseline in `methods`, from its card."""
    rows = []
    for name in profile.datasets():
        entry = entry_of(data, name)
        what = f"{entry.role}; {entry.what}" + " (simulated)" * entry.simulated
        rows.append(_row(name, what, entry, entry.sources))
    for name in methods:
        if name in plugins.names():
            card = plugins.card(name)
            rows.append(_row(name, f"baseline, our implementation: {card.title}", card, [card.source]))
        elif name not in PRESETS:
            rows.append(_row(name, "baseline", None, []))
    return rows


def _row(name: str, what: str, entry: Any, sources: Sequence[str]) -> dict[str, Any]:
    terms = {term: getattr(entry, term, "not registered") for term in ("licence", "redistribution", "citation")}
    return {"name": name, "what": what, **terms, "sources": sources}
