"""Progress bars of files, on standard error. In a log, only the last state of a bar is printed."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

_File = TypeVar("_File")


def track(files: Sequence[_File], what: str, console: "Console | None" = None) -> Iterator[_File]:
    """The files one by one, with a progress bar if there are any."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if files:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console or Console(stderr=True)) as bar:
            yield from bar.track(files, description=what)
