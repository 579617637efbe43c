"""The index of all result sets."""

import shutil
from html.parser import HTMLParser

import pytest
from tiny import PROJECT
from typer.testing import CliRunner

from lorun.cli import app
from lorun.errors import LorunError
from lorun.report import write_reports
from lorun.report.freshness import Fresh
from lorun.report.index import Entry, about
from lorun.report.page import render

ENTRY = Entry(
    "tiny", "<script>alert(1)</script>", "cs", 4, 32, 2, "1 (0123456789)", Fresh("stale", "runs: all 4 stale")
)


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "a":
            self.found.append(dict(attributes)["href"])


@pytest.fixture
def root(project, tmp_path, monkeypatch):
    """A project with two result sets and the folder of benchmarks; it is the current folder."""
    (tmp_path / "config").mkdir()
    (tmp_path / "lorun").mkdir()
    (tmp_path / "lorun/__init__.py").touch()
    for name in ("tiny", "other"):
        shutil.copytree(project.folder, tmp_path / "results" / name)
        text = project.config.read_text().replace("profile: tiny", f"profile: {name}")
        (tmp_path / "config" / f"{name}.yaml").write_text(
            f"# The set {name}: small,\n# and quick. Made by tests.\n{text}"
        )
    (tmp_path / "results/bench").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_of_sets_gives_their_pages_and_an_index(root, project):
    words = ["report", "results", "--runs", str(project.runs), "--data", str(project.data)]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.output) == (0, "wrote results/index.html and the pages of other, tiny\n")
    text = (root / "results/index.html").read_text()
    assert "The set tiny: small, and quick." in text
    assert "Made by tests" not in text
    assert Links(text).found == ["other/report.html", "tiny/report.html"]
    assert (root / "results/tiny/report.html").is_file()
    assert not (root / "results/bench/report.html").exists()


def test_the_pages_may_go_elsewhere(root, project):
    entries = write_reports(root / "results", runs=project.runs, data=project.data, out=root / "site")
    assert [(one.name, one.methods, one.rows, one.seeds) for one in entries] == [
        ("other", 4, 32, 1),
        ("tiny", 4, 32, 1),
    ]
    links = Links((root / "site/index.html").read_text()).found
    assert links == ["other/report.html", "tiny/report.html"]
    assert (root / "site/tiny/report.html").exists()
    assert not (root / "results/tiny/report.html").exists()


def test_what_cannot_be_indexed_is_one_line(root, project, tmp_path):
    places = {"runs": project.runs, "data": project.data, "out": tmp_path / "site"}
    with pytest.raises(LorunError, match="no result set here or in a subfolder"):
        write_reports(root / "config", **places)
    done = CliRunner().invoke(app, ["report", "results", "--config", "config/tiny.yaml"])
    assert "several result sets" in str(done.exception)
    (root / "config/other.yaml").unlink()
    with pytest.raises(LorunError, match=r"there is no profile config/other\.yaml"):
        write_reports(root / "results", **places)


def test_texts_are_not_markup():
    assert "<script" not in render("index.html.j2", entries=[ENTRY], page="report.html")


def test_every_profile_says_what_it_is():
    texts = {path.stem: about(path) for path in (PROJECT / "config").glob("*.yaml") if path.stem != "tasks.schema"}
    assert all(10 < len(text) < 200 and text.endswith((".", ")")) for text in texts.values()), texts
