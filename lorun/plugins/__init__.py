"""Baselines: networks and classical methods to compare with, each a folder with `baseline.py` and `card.yaml`.

`places` finds the folder of a baseline, `cards` reads its card, `loading` builds its network, `scaffold` writes a new
folder. The other modules are building blocks that several baselines share. docs/baselines.md is the tutorial.
"""

from lorun.plugins.cards import Card, card
from lorun.plugins.loading import build, check_options, load
from lorun.plugins.places import Place, check_name, find, installed_names, name_of, names

__all__ = [
    "Card",
    "Place",
    "build",
    "card",
    "check_name",
    "check_options",
    "find",
    "installed_names",
    "load",
    "name_of",
    "names",
]
