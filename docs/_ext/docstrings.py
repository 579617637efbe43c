"""Prepare docstrings in plain English for autodoc.

Asterisks, bars and underscores are escaped. Text between backticks is code. Tables and indented listings are literal
blocks.
"""

import re
from typing import Any

from sphinx.application import Sphinx

_CODE = re.compile(r"(``[^`]+``|`[^`]+`)")
_ALIGNED = re.compile(r"\w+ {2,}\S")  # name    what it is
_COLON = "\N{RATIO}"  # looks like one
_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields|Note|Example):$")


def setup(app: Sphinx) -> dict[str, Any]:
    """Run before napoleon, which looks for sections in the rest, and after it."""
    app.connect("autodoc-process-docstring", _process, priority=100)
    app.connect("autodoc-process-docstring", _finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _process(_app: Sphinx, what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    lines[:] = _prose(_listings(lines))
    if what in ("data", "attribute"):  # before a colon, napoleon expects a type
        lines[:] = [line.replace(":", _COLON) for line in lines]


def _finish(_app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def _listings(lines: list[str]) -> list[str]:
    """Make literal blocks of tables and of indented text that belongs to no section."""
    shown: list[str] = []
    inside = section = False
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if line and not indent:
            section = bool(_SECTION.match(line))
        after_blank = number == 0 or not lines[number - 1].strip()
        table = bool(line.startswith("|") or (_ALIGNED.match(line) and (inside or after_blank)))
        starts = table or (indent >= 4 and after_blank and not section)
        if not inside and starts and line.strip():
            shown += ["", "::", ""]
            inside = True
        elif inside and line.strip() and not table and not indent:
            shown.append("")
            inside = False
        shown.append(f"    {line}" if inside and line.strip() else line)
    return shown


def _prose(lines: list[str]) -> list[str]:
    """Escape what is special to reStructuredText outside of literal blocks."""
    out: list[str] = []
    prose: list[str] = []
    literal = False

    def flush() -> None:
        out.extend(_escape("\n".join(prose)).split("\n") if prose else [])
        prose.clear()

    for line in lines:
        if line == "::":
            flush()
            literal = True
        elif literal and line and not line.startswith(" "):
            literal = False
        if literal:
            out.append(line)
        else:
            prose.append(line)
    flush()
    return out


def _escape(text: str) -> str:
    parts = _CODE.split(text)
    for number, part in enumerate(parts):
        if number % 2:
            before = parts[number - 1][-1:]
            after = parts[number + 1][:1]
            code = f"``{' '.join(part.strip('`').split())}``"
            parts[number] = (r"\ " if before.isalnum() else "") + code + (r"\ " if after.isalnum() else "")
        else:
            part = re.sub(r"(?m)(?<!^)(?<!^ {4})\*", r"\\*", part)  # but not of lists
            parts[number] = re.sub(r"(\||(?<=\w)_(?!\w))", r"\\\1", part)
    return "".join(parts)
