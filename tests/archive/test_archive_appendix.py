"""The artifact appendix says what the tables know, and of the rest that it is not recorded."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from archived import Made
from tiny import PROJECT

from lorun.archive.appendix import appendix
from lorun.archive.origin import origin_of
from lorun.results.store import ResultSet, make_table, read_result_set


@pytest.fixture(scope="module")
def render(made: Made) -> Callable[[ResultSet], str]:
    def render(results: ResultSet) -> str:
        return appendix(origin_of(results, made.config, made.data, made.root))

    return render


def section(page: str, title: str) -> str:
    """A section of a page, with one space where there are several."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    return re.sub(r" +", " ", found[1])


def test_the_page_of_the_archive(made: Made, unpacked: Path, render: Callable[[ResultSet], str]) -> None:
    results = read_result_set(made.folder)
    page = render(results)
    assert (unpacked / "APPENDIX.md").read_text() == page
    assert results.version is not None
    assert results.version.cited in page
    assert "16 runs (16 completed), 128 scores." in page
    assert re.findall(r"^## (.*)", page, re.MULTILINE) == [
        *("Hardware", "Software", "Time", "Peak memory", "Seeds and intervals", "Data and licences", "Reproduce"),
    ]


def test_it_says_what_the_rows_know(made: Made, render: Callable[[ResultSet], str]) -> None:
    page = render(read_result_set(made.folder))
    assert "| training | cpu | 1 | 16 |" in section(page, "Hardware")
    assert "| latency | some CPU | 1 | 8 |" in section(page, "Hardware")
    assert "| 3.11.7 | torch=2.15.0 peft=0.21.2 | 16 |" in section(page, "Software")
    assert f"| {'e' * 40} | False | {'f' * 40} | False | 16 |" in section(page, "Software")
    assert re.search(r"\| cs \| r25 \| lorun \| 0, 1 \| 1\.5 \| 0\.006 \| 1\.2 \|", section(page, "Time"))
    assert "| cs | r25 | lorun | 2 | 16 | float32 |" in section(page, "Peak memory")
    assert "| cs | tiny | r25 | 2 | 2 |" in section(page, "Seeds and intervals")
    assert f"| tiny | {'0' * 32}.dir |" in section(page, "Data and licences")
    assert "make reproduce PROFILE=tiny" in section(page, "Reproduce")


def test_it_says_what_the_rows_do_not_know(made: Made, render: Callable[[ResultSet], str]) -> None:
    results = read_result_set(made.folder)
    runs = results.runs.assign(versions=None, trained_device=None, trained_commit=None, training_flops=None)
    page = render(replace(results, runs=runs, timing=make_table("timing", []), version=None))
    assert "Result set: not recorded" in page
    assert "| training | – | 1 | 16 |" in section(page, "Hardware")
    assert "| 3.11.7 | – | 16 |" in section(page, "Software")
    assert "| cs | r25 | lorun | 0, 1 | – | – | – |" in section(page, "Time")
    assert "that are in no table: not recorded" in section(page, "Time")
    assert "Address of the repository: not recorded" in section(page, "Reproduce")


@pytest.mark.parametrize("name", sorted(path.parent.name for path in (PROJECT / "results").glob("*/rows.csv")))
def test_every_committed_set_has_one(name: str) -> None:
    """And no machine's path or name stands in it."""
    results = read_result_set(PROJECT / "results" / name)
    origin = origin_of(results, PROJECT / f"config/{name}.yaml", PROJECT / "data", PROJECT)
    page = appendix(origin)
    assert str(PROJECT) not in page
    assert "nan" not in re.findall(r"[\w<>]+", page)
    assert "not registered" not in page
    assert {one["name"] for one in origin.licences} >= {*origin.profile.datasets()}


def test_the_authors_address_is_taken_from_the_citation(made: Made, tmp_path: Path) -> None:
    citation = yaml.safe_load((made.root / "CITATION.cff").read_text())
    (tmp_path / "CITATION.cff").write_text(yaml.safe_dump({**citation, "repository-code": "https://example.org/x"}))
    page = appendix(origin_of(read_result_set(made.folder), made.config, made.data, tmp_path))
    assert "Address of the repository: https://example.org/x" in page
