"""The index of all result sets: a line for each, with a link to its page."""

from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from lorun.report.freshness import Fresh, Freshness
from lorun.results.store import ResultSet

PAGE = "report.html"
"""The page of a result set, in its folder."""


@dataclass(frozen=True)
class Entry:
    """A line of the index."""

    name: str
    about: str
    tasks: str
    methods: int
    rows: int
    seeds: int
    version: str
    fresh: Fresh


def entry(results: ResultSet, config: Path, freshness: Freshness) -> Entry:
    """The line of a result set whose profile is in the file `config`."""
    return Entry(
        name=results.name,
        about=about(config),
        tasks=", ".join(results.summary.task.unique()),
        methods=results.summary.method.nunique(),
        rows=len(results.rows),
        seeds=results.rows.seed.nunique(),
        version="–" if results.version is None else f"{results.version.version} ({results.version.scores[:10]})",
        fresh=freshness.of(),
    )


def about(config: Path) -> str:
    """What a profile is: the first sentence of the comment that its file begins with; "" without one."""
    lines = takewhile(lambda line: line.startswith("#"), config.read_text(encoding="utf-8").splitlines())
    words = (line.lstrip("# ") for line in lines if "yaml-language-server" not in line)  # that one is for editors
    sentence, dot, _ = " ".join(words).partition(". ")
    return sentence + ("." if dot else "")
