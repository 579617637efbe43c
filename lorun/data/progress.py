"""How far a pass over many files is, on standard error."""

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

_File = TypeVar("_File")


def shown(files: Sequence[_File], what: str) -> Iterator[_File]:
    """The files one by one, with a bar on a terminal, else a line per tenth of them."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        yield from track(files, what, console=Console(stderr=True))
        return
    for number, file in enumerate(files, start=1):
        yield file
        if 10 * number // len(files) > 10 * (number - 1) // len(files):
            print(f"{what}: {number} of {len(files)} files", file=sys.stderr, flush=True)
