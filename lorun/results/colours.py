"""One colour and one marker per method, the same in every figure and on every page.

Strategies have fixed ones, the common ones those of Okabe and Ito (jfly.uni-koeln.de/color, 2008), which colour-blind
readers tell apart too, without yellow and black, because pages are light or dark. Baselines and variants get theirs
from a checksum of their name, so that two may have the same colour: figures name each point or give it its marker.
"""

from typing import NamedTuple
from zlib import crc32

MARKERS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
    "p": "pentagon",
    "*": "star",
    "h": "hexagon",
    "D": "diamond",
}
"""Markers of matplotlib, and what plotly calls them. Diamonds are kinds of LoRun."""


class Look(NamedTuple):
    """`colour` as #RRGGBB, `marker` of matplotlib."""

    colour: str
    marker: str


STRATEGIES = {
    "block1": Look("#CC79A7", "o"),
    "block_k": Look("#0072B2", "s"),
    "block_k_base": Look("#6699CC", "s"),
    "shared": Look("#009E73", "^"),
    "shared_sigma": Look("#56B4E9", "v"),
    "lorun": Look("#D55E00", "D"),
    "lorun_sigma": Look("#E69F00", "D"),
    "lorun_shared": Look("#CC6677", "D"),
    "lorun_shared_sigma": Look("#DDAA33", "D"),
    "lorun_mixed": Look("#8C564B", "D"),
    "lorun_denoiser": Look("#BB5566", "D"),
    "lorun_transfer": Look("#AA4499", "D"),
    "lorun_random": Look("#A8386B", "D"),
    "relaxed": Look("#999933", "P"),
    "relaxed_svd": Look("#6B8E23", "X"),
    "oracle": Look("#44AA99", "*"),
    "frozen": Look("#7F7F7F", "h"),
}

PALETTE = (
    *("#4477AA", "#228833", "#B8860B", "#CC3377", "#5F9EA0"),
    *("#8A6FC0", "#A0522D", "#708090", "#2F8F8F", "#E07B91"),
)
"""The colours of all other methods."""


def look(method: str) -> Look:
    """The colour and the marker of a method."""
    if method in STRATEGIES:
        return STRATEGIES[method]
    rest, number = divmod(crc32(method.encode()), len(PALETTE))
    markers = [marker for marker in MARKERS if marker != "D"]
    return Look(PALETTE[number], "D" if method.startswith("lorun") else markers[rest % len(markers)])
