"""The blocks of README and of the documentation that a reader runs or writes.

Commands and Python are run, unless a comment right above the block changes that:

    <!-- run: not, REASON -->     not run; the options of its commands are parsed
    <!-- run: with NAME ... -->   run if these datasets are present, otherwise parsed
    <!-- file: PATH -->           written to this file
    <!-- patch -->                applied by `git apply`
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from tiny import PROJECT

COMMANDS = ("bash", "console", "sh", "shell")
PROGRAMS = ("make", "lorun", "torchrun", "dvc", "python", "git")
"""An indented block that begins with one of these is a block of commands."""

_MARKER = re.compile(r"<!-- *(run|file|patch)(?:: *(.*?))? *-->\s*$", re.DOTALL)
_CALL = re.compile(r"(?:\.venv/bin/)?([\w-]+)")


class Block(NamedTuple):
    """One block: its place, language and text, and the kind and note of the comment above it."""

    page: str
    line: int
    language: str
    text: str
    kind: str = "run"
    note: str = ""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Its command lines; a line that ends with a backslash continues."""
        text = self.text.replace("\\\n", " ")
        lines = [line.strip() for line in text.splitlines()]
        if self.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if line and not line.startswith("#")]


def pages() -> list[Path]:
    """README and every page of the documentation."""
    return [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page that are run or written, in order."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    name = page.relative_to(PROJECT).as_posix()
    for number, token in enumerate(tokens):
        above = tokens[number - 1].content if number and tokens[number - 1].type == "html_block" else ""
        marker = _MARKER.match(above)
        kind, note = (marker[1], marker[2] or "") if marker else ("run", "")
        if token.type == "fence":
            language = token.info.split()[0] if token.info else ""
            if language in COMMANDS or language == "python" or kind != "run":
                yield Block(name, token.map[0] + 1, language, token.content, kind, note)
        elif token.type == "code_block":
            yield Block(name, token.map[0] + 1, "bash" if _calls(token.content) else "", token.content, kind, note)


def words(command: str) -> list[str]:
    """The words of a command line without its comment."""
    return shlex.split(command, comments=True)


def program(command: str) -> str:
    """The name of the program that a command line calls."""
    match = _CALL.match(command)
    return match[1] if match else ""


def _calls(text: str) -> bool:
    return program(text) in PROGRAMS
