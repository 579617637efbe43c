"""Licences of everything that the suite fetches or ships, with its source and what may be done with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorun import plugins
from lorun.data.checksums import read_manifest
from lorun.data.registry import Dataset, entry_of, read_registry
from lorun.methods import PRESETS
from lorun.profiles import Profile

_HEAD = """\
# Licences

What the suite fetches and ships, where it comes from, and whether it may be passed on. Nothing that is fetched is in
this repository. "not stated": its authors say nothing, so use it for research, cite it, do not pass it on.

Made by `make licences` from data/registry.yaml and the cards in baselines/; do not edit it by hand.
"""


def ledger(root: Path) -> str:
    """The page LICENCES.md. Raises LorunError for an entry of the registry or a card without a licence."""
    registry = read_registry(root)
    weights = {name: entry for name, entry in registry.items() if entry.role == "weights"}
    datasets = {name: entry for name, entry in registry.items() if entry.role != "weights"}
    parts = [_HEAD, "## Datasets and operators\n", _TABLE.format("dataset")]
    parts += [_line(f"`{name}`", entry, f"{entry.role}; {entry.what}") for name, entry in datasets.items()]
    parts += ["\n## Released weights\n", _TABLE.format("file")]
    for name, entry in weights.items():
        parts += [_line(f"`{name}/{file}`", entry, entry.what) for file in read_manifest(root, name)]
    parts += [
        "\n## Baselines\n",
        "Written anew for this suite from the papers; the licence is that of this implementation.\n",
        "| baseline | licence | may be passed on | authors' own | citation |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in plugins.names():
        card = plugins.card(name)
        parts.append(f"| `{name}` | {card.licence} | {card.redistribution} | {card.source} | {card.citation} |")
    return "\n".join(parts) + "\n"


_TABLE = "| {} | what | licence | may be passed on | source | citation |\n| --- | --- | --- | --- | --- | --- |"


def _line(name: str, entry: Dataset, what: str) -> str:
    sources = "<br>".join(entry.sources)
    return f"| {name} | {what} | {entry.licence} | {entry.redistribution} | {sources} | {entry.citation} |"


def licences_of(profile: Profile, methods: Sequence[str], data: Path) -> list[dict[str, Any]]:
    """A row for each dataset of `profile`, from the registry in `data`, and for each baseline among `methods`."""
    strategies = {*PRESETS, *(name for task in profile.tasks.values() for name in task.strategies)}
    rows = []
    for name in profile.datasets():
        entry = entry_of(data, name)
        rows.append(_row(name, f"{entry.role}; {entry.what}" + " (simulated)" * entry.simulated, entry, entry.sources))
    for name in methods:
        if name in plugins.names():
            card = plugins.card(name)
            rows.append(_row(name, f"baseline, our implementation: {card.title}", card, [card.source]))
        elif name not in strategies:
            rows.append(_row(name, "baseline", None, []))
    return rows


def _row(name: str, what: str, entry: Any, sources: Sequence[str]) -> dict[str, Any]:
    terms = {term: getattr(entry, term, "not registered") for term in ("licence", "redistribution", "citation")}
    return {"name": name, "what": what, **terms, "sources": sources}
