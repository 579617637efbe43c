"""Errors a user can act on: one line that names the thing, its value and the choices."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any


class LorunError(Exception):
    """Something the user can mend; the command line prints the message alone and exits with 1."""


def one_line(error: BaseException) -> str:
    """The message of an error without its line breaks."""
    return " ".join(str(error).split())


def short(value: Any, length: int = 100) -> str:
    """A value for a message, cut to a length."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or lists in lists
        text = f"a {type(value).__name__}"
    return text if len(text) <= length else f"{text[:length]}…"


@contextmanager
def extra(name: str, use: str) -> Iterator[None]:
    """Around imports that `use` needs and that the installation lacks without the extra `name`: one line says so."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise LorunError(f"{use} needs the package {package}: `pip install 'lorun[{name}]'` installs it") from None


class UnknownName(LorunError):
    """A name that is not among the known ones.

    >>> str(UnknownName("strategy", "lorum", ["lorun", "shared"]))
    "unknown strategy 'lorum'. Did you mean 'lorun'? Choices: lorun, shared"
    """

    def __init__(self, kind: str, name: str, choices: Iterable[str]) -> None:
        choices = list(choices)
        near = get_close_matches(name, choices, n=1, cutoff=0.6)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"unknown {kind} {short(name)}.{hint} Choices: {', '.join(choices)}")


def one_of(kind: str, name: str, choices: Iterable[str]) -> Any:
    """`name` itself. Raises UnknownName where it is not one of `choices`."""
    choices = list(choices)
    if name not in choices:
        raise UnknownName(kind, name, choices)
    return name
