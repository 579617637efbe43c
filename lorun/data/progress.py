"""Progress bars of files, on standard error. In a log, only the last state of a bar is printed."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

_File = TypeVar("_File")


def progress_bar() -> "Progress":
    """A bar for use in `with`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True))


def track(files: Sequence[_File], what: str) -> Iterator[_File]:
    """The files one by one, with a progress bar."""
    if files:
        with progress_bar() as bar:
            yield from bar.track(files, description=what)
