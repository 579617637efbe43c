"""Every method has one colour and one marker, everywhere."""

import re
from collections import Counter

import pytest
from matplotlib.markers import MarkerStyle

from lorun import plugins
from lorun.methods import STRATEGIES
from lorun.report.charts import looks
from lorun.results import colours
from lorun.results.colours import MARKERS, PALETTE, Look, look


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_every_strategy_has_a_colour_of_its_own():
    assert set(colours.STRATEGIES) == set(STRATEGIES)
    counts = Counter(own.colour for own in colours.STRATEGIES.values())
    assert max(counts.values()) == 1


def test_no_two_baselines_of_a_task_look_the_same():
    tasks = {task for name in plugins.names() for task in plugins.card(name).tasks}
    for task in tasks:
        of_task = [name for name in plugins.names() if task in plugins.card(name).tasks]
        assert len({look(name) for name in of_task}) == len(of_task), task


def test_a_name_keeps_its_look_whatever_else_there_is():
    assert look("my_net") == Look("#4477AA", "X")  # as on every machine and in every version
    assert look("lorun_gamma5").marker == look("lorun").marker == "D"
    assert look("my_net").marker != "D"


@pytest.mark.parametrize("colour", [*PALETTE, *(own.colour for own in colours.STRATEGIES.values())])
def test_colours_are_seen_on_light_and_on_dark(colour):
    assert re.fullmatch("#[0-9A-F]{6}", colour)
    light, dark = 1.0, luminance("#171b22")
    assert (light + 0.05) / (luminance(colour) + 0.05) > 1.9
    assert (luminance(colour) + 0.05) / (dark + 0.05) > 2.2


def test_both_libraries_know_the_markers():
    for marker in MARKERS:
        MarkerStyle(marker)
    assert looks(["lorun", "block_k"]) == {
        "lorun": {"color": "#D55E00", "symbol": "diamond"},
        "block_k": {"color": "#0072B2", "symbol": "square"},
    }
