"""Progress over many files, on standard error."""

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

_File = TypeVar("_File")


class Progress:
    """Counts files and bytes: a bar on a terminal, else a line for every tenth of the files.

    Args:
        what: shown before the counts.
        files: number of files in all.
    """

    def __init__(self, what: str, files: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        self.what, self.files, self.done, self.bytes = what, files, 0, 0
        self.terminal = sys.stderr.isatty()
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[size]}")
        self.bar = Bar(*columns, console=Console(stderr=True), disable=not self.terminal)
        self.task = self.bar.add_task(what, total=files, size="")

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def add_bytes(self, count: int) -> None:
        self.bytes += count
        self.bar.update(self.task, size=f"{self.bytes / 1e6:.1f} MB")

    def add_file(self) -> None:
        before = 10 * self.done // self.files
        self.done += 1
        self.bar.advance(self.task)
        if not self.terminal and 10 * self.done // self.files > before:
            size = f", {self.bytes / 1e6:.1f} MB" if self.bytes else ""
            self.say(f"{self.done} of {self.files} files{size}")

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        if self.terminal:
            self.bar.console.print(f"{self.what}: {text}", markup=False, highlight=False)
        else:
            print(f"{self.what}: {text}", file=sys.stderr, flush=True)


def track(files: Sequence[_File], what: str) -> Iterator[_File]:
    """The files one by one, with their progress."""
    if not files:
        return
    with Progress(what, len(files)) as progress:
        for file in files:
            yield file
            progress.add_file()
