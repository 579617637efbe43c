"""`lorun gate`: what it reads, prints and writes, and how it ends."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tiny import PROJECT

from lorun import cli

QUICK = PROJECT / "results/quick"


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run it: exit status, and what was printed."""

    def gate(reference: object, candidate: object, *options: object) -> tuple[int, str]:
        words = ["lorun", "gate", "--reference", reference, "--candidate", candidate, *options]
        monkeypatch.setattr(sys, "argv", list(map(str, words)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out + said.err

    return gate


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository, with us in it: `good` holds the committed result set, HEAD one with a row less."""
    folder = tmp_path / "repository"
    shutil.copytree(QUICK, folder / "results/quick", ignore=shutil.ignore_patterns("*.png"))

    def git(*words: str) -> None:
        own = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(folder), *own, *words], check=True, capture_output=True)

    git("init")
    git("add", ".")
    git("commit", "-m", "good")
    git("tag", "good")
    rows = folder / "results/quick/rows.csv"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-1]))
    git("commit", "-a", "-m", "a row less")
    monkeypatch.chdir(folder)
    return folder


def test_the_same_set_passes_however_it_is_named(gate, repository: Path) -> None:
    rows = QUICK / "rows.csv"
    for reference, candidate in ((QUICK, "good:results/quick"), ("good", QUICK.parent / "quick"), (rows, rows)):
        status, said = gate(reference, candidate)
        assert status == 0, said
        assert "gate passed" in said


def test_revisions_are_compared_without_a_checkout(gate, repository: Path) -> None:
    shutil.rmtree(repository / "results")
    status, said = gate("good", "HEAD")
    assert status == 1
    assert re.search(r"1 of \d+ rows missing", said)
    assert "gate FAILED: HEAD against good (1 failed" in said


def test_what_is_unknown_fails_where_asked(gate) -> None:
    rows = QUICK / "rows.csv"  # without an account beside it
    assert gate(rows, QUICK)[0] == 0
    assert gate(rows, QUICK, "--strict")[0] == 1


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("nowhere", "nowhere: neither a folder, a table of rows, nor a git revision"),
        ("HEAD:nowhere", "HEAD:nowhere: no result set here"),
        ("empty", "empty: no result set here"),
        ("odd.csv", "odd.csv: rows.csv: lacks the columns task"),
        ("twice.csv", "two rows of cs photos r25 block1 0 astronaut cs_float_y psnr"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_line(gate, repository: Path, reference: str, words: str) -> None:
    Path("empty").mkdir()
    Path("odd.csv").write_text("a,b\n1,2\n")
    lines = (QUICK / "rows.csv").read_text().splitlines(keepends=True)
    Path("twice.csv").write_text("".join([*lines[:2], *lines[1:]]))
    status, said = gate(reference, "HEAD")
    assert status == 2
    assert words in said
    assert len(said.splitlines()) == 1


def test_tolerances_that_make_no_sense(gate) -> None:
    for said, words in (("psrn=1", "Did you mean 'psnr'"), ("psnr=-1", "at least 0"), ("psnr", "METRIC=VALUE")):
        status, printed = gate(QUICK, QUICK, "--tolerance", said)
        assert status == 2
        assert words in printed


def test_the_files_say_what_the_terminal_says(gate, repository: Path) -> None:
    names = ["--junit", "gate.xml", "--markdown", "gate.md", "--json", "gate.json"]
    status, _ = gate("good", "HEAD", *names)
    assert status == 1
    found = json.loads(Path("gate.json").read_text())
    assert found["passed"] is False
    assert found["findings"][0]["verdict"] == "failed"  # worst first
    root = ElementTree.parse("gate.xml").getroot()
    assert root.get("failures") == "1"
    assert int(root.get("tests", "0")) == len(found["findings"]) == len(root.findall(".//testcase"))
    [failure] = root.findall(".//failure")
    assert re.search(r"1 of \d+ rows missing", failure.text or "")
    text = Path("gate.md").read_text()
    assert text.startswith("### ❌ gate FAILED: HEAD against good")
    assert re.search(r"\| failed \| rows \| \w+/\w+/\w+ \|", text)
    assert "a probability of 0.005" in text
