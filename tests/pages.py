"""What the pages of the documentation tell their reader to do, block by block.

A comment right above a block says what is to be done with it; without one, commands and Python are run.

    <!-- run: not, REASON -->     what no test can run; of commands the options are parsed
    <!-- run: with NAME ... -->   what is run where these datasets are present, else parsed
    <!-- file: PATH -->           a file that the reader writes
    <!-- patch -->                a change of files, as `git apply` takes it
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
"""What an indented block has to begin with to be one of commands."""

_MARKER = re.compile(r"<!-- *(run|file|patch)(?:: *(.*?))? *-->\s*$", re.DOTALL)
_CALL = re.compile(r"(?:\.venv/bin/)?([\w-]+)")


class Block(NamedTuple):
    """One block: where it stands, its language, its text, and what the comment above it says."""

    page: str
    line: int
    language: str
    text: str
    kind: str = "run"
    said: str = ""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Its command lines; what is continued by a backslash is one."""
        text = self.text.replace("\\\n", " ")
        lines = [line.strip() for line in text.splitlines()]
        if self.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if line and not line.startswith("#")]


def pages() -> list[Path]:
    """README and every page of the documentation."""
    return [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page that have to do with commands, in order."""
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    name = page.relative_to(PROJECT).as_posix()
    for number, token in enumerate(tokens):
        above = tokens[number - 1].content if number and tokens[number - 1].type == "html_block" else ""
        marker = _MARKER.match(above)
        kind, said = (marker[1], marker[2] or "") if marker else ("run", "")
        if token.type == "fence":
            language = token.info.split()[0] if token.info else ""
            if language in COMMANDS or language == "python" or kind != "run":
                yield Block(name, token.map[0] + 1, language, token.content, kind, said)
        elif token.type == "code_block":
            yield Block(name, token.map[0] + 1, "bash" if _calls(token.content) else "", token.content, kind, said)


def words(command: str) -> list[str]:
    """The words of a command line without its comment."""
    return shlex.split(command, comments=True)


def program(command: str) -> str:
    """What a command line calls, wherever it lies."""
    match = _CALL.match(command)
    return match[1] if match else ""


def _calls(text: str) -> bool:
    return program(text) in PROGRAMS
