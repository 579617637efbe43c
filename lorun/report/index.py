"""The index of all result sets: a line for each, with links to its page and tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from lorun.files import write_text
from lorun.report.freshness import Fresh, Freshness
from lorun.report.page import render
from lorun.results.store import ResultSet

PAGE = "report.html"
"""The page of a result set, in its folder."""

_LINKED = {"summary.md": "summary", "details.md": "details", "rows.csv": "scores", "runs.csv": "runs"}


@dataclass(frozen=True)
class Entry:
    """A line of the index. `days` are the first and the last one of the commits that scored it."""

    name: str
    about: str
    tasks: str
    methods: int
    rows: int
    seeds: int
    version: str
    days: str
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
        days=freshness.days(results.runs) or "–",
        fresh=freshness.of(),
    )


def about(config: Path) -> str:
    """What a profile is: the first sentence of the comment that its file begins with; "" without one."""
    lines = takewhile(lambda line: line.startswith("#"), config.read_text(encoding="utf-8").splitlines())
    words = (line.lstrip("# ") for line in lines if "yaml-language-server" not in line)  # that one is for editors
    sentence, dot, _ = " ".join(words).partition(". ")
    return sentence + ("." if dot else "")


def write_index(out: Path, entries: Sequence[Entry]) -> None:
    """Write the index into `out`, which has a folder with the page of each set. Links only to what is there."""
    links = [
        {text: f"{one.name}/{file}" for file, text in _LINKED.items() if (out / one.name / file).exists()}
        for one in entries
    ]
    lines = list(zip(entries, links, strict=True))
    write_text(out / "index.html", render("index.html.j2", lines=lines, linked=any(links), page=PAGE))
