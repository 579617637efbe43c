"""Progress of a training: a bar on a terminal, lines for logs elsewhere."""

import sys
import time
from typing import Self

_LINE_EVERY = 10.0  # seconds


class Progress:
    """Context manager that shows loss, validation PSNR, steps/s and time left of a run, unless `silent`."""

    def __init__(self, name: str, done: int, total: int, silent: bool = False) -> None:
        self.name, self.first, self.total, self.silent = name, done, total, silent
        self.start = time.monotonic()
        self.shown = self.start - _LINE_EVERY  # show the first step at once
        self.bar = None
        if sys.stderr.isatty() and not silent:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as RichProgress

            name_of, state = TextColumn("{task.description}"), TextColumn("{task.fields[state]}")
            columns = name_of, BarColumn(), MofNCompleteColumn(), state, TimeRemainingColumn()
            self.bar = RichProgress(*columns, console=Console(stderr=True))
            self.task = self.bar.add_task(name, total=total, completed=done, state="")

    def __enter__(self) -> Self:
        if self.bar is not None:
            self.bar.start()
        else:
            self._line(self.first, "starts" if self.first == 0 else "resumes")
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def update(self, done: int, loss: float, validation_psnr: float | None) -> None:
        now = time.monotonic()
        rate = (done - self.first) / max(now - self.start, 1e-9)
        state = f"loss {loss:.3g}"
        if validation_psnr is not None:
            state += f", validation {validation_psnr:.2f} dB"
        state += f", {rate:.2g} steps/s"
        if self.bar is not None:
            self.bar.update(self.task, completed=done, state=state)
        elif now - self.shown >= _LINE_EVERY or done == self.total:
            self.shown = now
            self._line(done, f"{state}, {(self.total - done) / max(rate, 1e-9):.0f} s left")

    def _line(self, done: int, state: str) -> None:
        if not self.silent:
            print(f"{self.name}: step {done}/{self.total}: {state}", file=sys.stderr, flush=True)
