"""Files with random damage, and readers that end in one line; `FUZZ` is the number of files for each reader."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from lorun.errors import LorunError

EXAMPLES = int(os.environ.get("FUZZ", "40"))
tried = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def damaged(draw: st.DrawFn, whole: bytes, others: Sequence[bytes] = ()) -> bytes:
    """The content of a file with bytes flipped, cut off, overwritten or inserted, or another one instead."""
    content = bytearray(whole)
    place = st.integers(0, len(content) - 1)
    how = draw(st.sampled_from(["flip", "cut", "swap", "insert", *["other"] * bool(others)]))
    if how == "flip":
        for at in draw(st.lists(place, min_size=1, max_size=8)):
            content[at] ^= draw(st.integers(1, 255))
    elif how == "cut":
        del content[draw(place) :]
    elif how == "swap":
        first, second, length = draw(place), draw(place), draw(st.integers(1, 64))
        content[first : first + length] = content[second : second + length]
    elif how == "insert":
        at = draw(place)
        content[at:at] = draw(st.binary(max_size=64))
    else:
        return draw(st.sampled_from(others))
    return bytes(content)


def one_line(reader: Callable[[Path], Any], path: Path) -> str:
    """What a reader says, in one line that names the file; "" where it gives values."""
    message = ""
    try:
        reader(path)
    except LorunError as error:
        message = str(error)
    assert not message or str(path) in message
    assert "\n" not in message
    assert len(message) < 1000
    return message
