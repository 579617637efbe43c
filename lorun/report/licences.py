"""The licences of what a result set used: its datasets, operators, weights and baselines."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lorun import plugins
from lorun.data.registry import read_registry
from lorun.profiles import Profile


@dataclass(frozen=True)
class Licence:
    """What something is, what may be done with it, where it comes from and how it is cited."""

    name: str
    what: str
    licence: str
    redistribution: str
    sources: list[str]
    citation: str


_UNKNOWN = "not registered"


def licences(profile: Profile, summary: pd.DataFrame, data: Path) -> list[Licence]:
    """Those of the datasets of `profile`, as the registry in `data` has them, and of the baselines in `summary`."""
    registry = read_registry(data)
    found = []
    for name in profile.datasets():
        entry = registry.get(name)
        if entry is None:
            found.append(Licence(name, "dataset", _UNKNOWN, _UNKNOWN, [], _UNKNOWN))
            continue
        what = f"{entry.role}; {entry.what}" + (" (simulated)" if entry.simulated else "")
        found.append(Licence(name, what, entry.licence, entry.redistribution, entry.sources, entry.citation))
    for name in summary.method.unique():
        if name in NAMED:
            continue
        if name not in plugins.names():
            found.append(Licence(name, "baseline", _UNKNOWN, _UNKNOWN, [], _UNKNOWN))
            continue
        card = plugins.card(name)
        what = f"baseline, written anew: {card.title}"
        found.append(Licence(name, what, card.licence, card.redistribution, [card.source], card.citation))
    return found
