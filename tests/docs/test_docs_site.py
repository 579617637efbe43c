"""The site is built without a warning, and needs no network."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from processes import command, run_in_copy, sphinx
from tiny import PROJECT

from lorun import plugins
from lorun.denoisers import DENOISERS
from lorun.evaluation.protocols import PROTOCOLS
from lorun.methods import STRATEGIES
from lorun.physics import OPERATORS

pytest.importorskip("sphinx")

ATTRIBUTES = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}


class Page(HTMLParser):
    """What a page loads, its links, and its elements."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.tags: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.add(tag)
        self.ids.add(values.get("id") or "")
        if tag in ATTRIBUTES and values.get(ATTRIBUTES[tag]):
            self.loads.append(values[ATTRIBUTES[tag]])
        if tag == "link" and values.get("rel") not in ("canonical", "next", "prev", "index", "search"):
            self.loads.append(values["href"])
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    root = tmp_path_factory.mktemp("site")
    makefile = (PROJECT / "Makefile").read_text()
    [options] = re.findall(r"\$\(BIN\)/sphinx-build (.*) docs \$\(SITE\)", makefile)
    words = [*options.split(), "--doctree-dir", str(root / "doctrees"), "docs", str(root / "site")]
    done = run_in_copy(PROJECT, os.environ, sphinx, words)
    assert done.returncode == 0, done.stdout + done.stderr
    [options] = re.findall(r"\$\(BIN\)/lorun (report .*)\$\(SITE\)/results", makefile)
    done = run_in_copy(PROJECT, os.environ, command, [*options.split(), str(root / "site/results")])
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "site"


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_page_is_there(pages: dict[Path, Page], site: Path) -> None:
    for source in (PROJECT / "docs").glob("*.md"):
        assert site / f"{source.stem}.html" in pages


def test_every_result_set_has_its_page_and_a_line_of_the_index(pages: dict[Path, Page], site: Path) -> None:
    names = {path.parent.name for path in PROJECT.glob("results/*/rows.csv")}
    assert {f"{name}/report.html" for name in names} <= set(pages[site / "results/index.html"].links)
    assert "results/index.html" in pages[site / "results.html"].links


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Page], site: Path) -> None:
    for path, page in pages.items():
        assert page.loads, path
        for address in page.loads:
            if address.startswith("data:"):
                continue
            assert not re.match(r"(\w+:)?//", address), f"{path}: {address}"
            assert (path.parent / address.partition("?")[0]).is_file(), f"{path}: {address}"
    for style in site.rglob("*.css"):
        outside = re.findall(r"@import[^;]*|url\(\s*['\"]?(?:https?:)?//[^)]*\)", style.read_text(encoding="utf-8"))
        assert not [found for found in outside if "//" in found], style


def test_links_lead_somewhere(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"\w+:", link):
                continue
            file, _, place = link.partition("#")
            target = (path.parent / file).resolve() if file else path
            assert target.is_file(), f"{path}: {link}"
            if place and target in pages:
                assert place in pages[target].ids, f"{path}: {link}"


def test_equations_are_drawn_by_the_browser_alone(pages: dict[Path, Page], site: Path) -> None:
    for name in ("method", "operators"):
        assert {"math", "mfrac", "msup"} <= pages[site / f"{name}.html"].tags
    for path, page in pages.items():
        assert not [address for address in page.loads if re.search("(?i)mathjax|katex", address)], path


def test_an_equation_that_cannot_be_drawn_is_a_warning(tmp_path: Path) -> None:
    path = f"import sys; sys.path.append({str(PROJECT / 'docs/_ext')!r})\n"
    (tmp_path / "conf.py").write_text(f"{path}extensions = ['mathml']\nhtml_math_renderer = 'mathml'\n")
    (tmp_path / "index.rst").write_text("Page\n====\n\n.. math:: \\nosuch x\n")
    done = run_in_copy(tmp_path, os.environ, sphinx, ["--fail-on-warning", str(tmp_path), str(tmp_path / "site")])
    assert done.returncode == 1
    assert "nosuch is not known" in done.stderr


def test_generated_pages_are_complete(site: Path) -> None:
    names = ("protocols", "profile", "commands", "method", "baselines", "results")
    text = {name: (site / f"{name}.html").read_text(encoding="utf-8") for name in names}
    assert all(f">{strategy}<" in text["method"] for strategy in STRATEGIES)
    assert all(f">{baseline}<" in text["baselines"] for baseline in plugins.names())
    assert text["results"].count("results-of-the-") >= 5
    assert all(f">{protocol}<" in text["protocols"] for protocol in PROTOCOLS)
    assert all(f">{key}<" in text["profile"] for model in (*OPERATORS, *DENOISERS) for key in model.model_fields)
    assert all(f">{option}<" in text["commands"] for option in ("--recompute", "--no-latency", "--marker", "--partial"))


def test_every_package_and_module_is_documented(site: Path) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (site / "api").glob("*.html"))
    left_out = {"lorun", "lorun.__main__"}
    for path in (PROJECT / "lorun").rglob("*.py"):
        parts = path.relative_to(PROJECT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name not in left_out and not name.startswith("lorun.cli") and not re.search(r"\._", name):
            assert f'id="module-{name}"' in text, name
