"""`lorun gate`: what it reads, prints and writes, and its exit status."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tiny import PROJECT

from lorun import cli

SMOKE = PROJECT / "results/smoke"  # the smallest committed set

Gate = Callable[..., tuple[int, str]]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Gate:
    """Run it: exit status, and what it printed."""

    def gate(reference: object, candidate: object, *options: object) -> tuple[int, str]:
        words = ["lorun", "gate", "--reference", reference, "--candidate", candidate, *options]
        monkeypatch.setattr(sys, "argv", list(map(str, words)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out + err

    return gate


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository, the working directory: `good` has the committed result set, HEAD one row less."""
    folder = tmp_path / "repository"
    shutil.copytree(SMOKE, folder / "results/smoke")

    def git(*words: str) -> None:
        own = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(folder), *own, *words], check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "good")
    git("tag", "good")
    rows = folder / "results/smoke/rows.csv"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-1]))
    (rows.parent / "version.json").unlink()  # it knows the other row
    git("commit", "-a", "-m", "a row less")
    monkeypatch.chdir(folder)
    return folder


def test_a_set_passes_against_itself_from_folder_or_revision(gate: Gate, repository: Path) -> None:
    for reference, candidate in ((SMOKE, "good:results/smoke"), ("good", SMOKE)):
        status, printed = gate(reference, candidate)
        assert status == 0, printed
        assert "gate passed" in printed


def test_revisions_are_compared_without_a_checkout(gate: Gate, repository: Path) -> None:
    shutil.rmtree(repository / "results")
    status, printed = gate("good", "HEAD")
    assert status == 1
    assert re.search(r"1 of \d+ rows missing", printed)
    assert "gate FAILED: HEAD against good (1 failed" in printed


def test_a_revision_of_an_older_schema_cannot_be_compared(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    status, printed = gate("c539559:results/quick", "results/quick")
    if "neither a folder nor a git revision" in printed:
        pytest.skip("a clone without the history")
    assert status == 2
    assert "only the code of its commit reads it" in printed


def test_a_reference_without_scores_is_nothing_to_compare_with(gate: Gate, repository: Path) -> None:
    rows = repository / "results/smoke/rows.csv"
    rows.write_text(rows.read_text().splitlines(keepends=True)[0])
    assert gate("results", SMOKE) == (2, "error: results: no scores to compare with (rows.csv has no lines)\n")


def test_strict_fails_what_is_unknown(gate: Gate, repository: Path) -> None:
    bare = shutil.copytree(repository / "results/smoke", repository / "bare")
    (bare / "accounting.csv").unlink()
    status, printed = gate(bare, bare, "--all")
    assert status == 0
    assert re.search(r"passed +rows", printed)
    assert gate(bare, bare, "--strict")[0] == 1


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("nowhere", "nowhere: neither a folder nor a git revision"),
        ("HEAD:nowhere", "HEAD:nowhere: no result set here"),
        ("empty", "empty: no result set here"),
    ],
)
def test_an_unreadable_source_is_an_error_of_one_line(gate: Gate, repository: Path, reference: str, words: str) -> None:
    Path("empty").mkdir()
    status, printed = gate(reference, "HEAD")
    assert status == 2
    assert words in printed
    assert len(printed.splitlines()) == 1


def test_files_hold_what_the_terminal_shows(gate: Gate, repository: Path) -> None:
    names = ["--junit", "gate.xml", "--markdown", "gate.md", "--json", "gate.json"]
    status, _ = gate("good", "HEAD", *names)
    assert status == 1
    found = json.loads(Path("gate.json").read_text())
    assert found["passed"] is False
    assert found["findings"][0]["verdict"] == "failed"  # worst first
    root = ElementTree.parse("gate.xml").getroot()
    assert root.get("failures") == "1"
    assert int(root.get("tests", "0")) == len(found["findings"]) == len(root.findall(".//testcase"))
    assert sum(int(suite.get("skipped", "0")) for suite in root) == found["counts"]["unknown"]
    [failure] = root.findall(".//failure")
    assert re.search(r"1 of \d+ rows missing", failure.text or "")
    text = Path("gate.md").read_text()
    assert text.startswith("### ❌ gate FAILED: HEAD against good")
    assert re.search(r"\| failed +\| rows +\| \w+/\w+/\w+ +\|", text)
    assert "alpha: 0.005" in text
