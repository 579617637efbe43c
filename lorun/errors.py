"""Errors a user can act on: one line that names the thing, its value and the choices."""

from collections.abc import Iterable
from difflib import get_close_matches


class LorunError(Exception):
    """Something the user can mend; the command line prints the message alone and exits with 1."""


class UnknownName(LorunError):
    """A name that is not among the known ones.

    >>> str(UnknownName("strategy", "lorum", ["lorun", "shared"]))
    "unknown strategy 'lorum'. Did you mean 'lorun'? Choices: lorun, shared"
    """

    def __init__(self, kind: str, name: str, choices: Iterable[str]) -> None:
        choices = list(choices)
        near = get_close_matches(name, choices, n=1, cutoff=0.6)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"unknown {kind} {name!r}.{hint} Choices: {', '.join(choices)}")
