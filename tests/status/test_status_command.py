"""What `lorun status` prints."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded import COMMON, SOURCE, TRAINING, Suite

from lorun import cli

Status = Callable[..., tuple[int, str]]


@pytest.fixture
def status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Status:
    """Run `lorun status` in the current folder: exit status and output."""

    def status(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["lorun", "status", *words])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return status


def test_a_fresh_result_set_is_one_line(suite: Suite, status: Status) -> None:
    code, text = status("--strict")
    assert code == 0
    version = suite.results.version
    assert version is not None
    assert text.splitlines()[0] == f"scratch ({version.cited}): runs: 6 fresh; accounts: 3 fresh"


def test_what_is_stale_is_shown_with_its_reason_and_hours(suite: Suite, status: Status) -> None:
    suite.write(TRAINING, SOURCE.replace("1", "2"))
    code, text = status("results/scratch")
    assert code == 0
    lines = text.splitlines()
    assert lines[0].split() == [
        "set",
        "task",
        "what",
        "methods",
        "settings",
        "number",
        "state",
        "run",
        "again",
        "hours",
        "why",
    ]
    row = ["scratch", "cs", "run", "block_k lorun linear_mmse", "r25", "6", "stale", "train evaluate", "3.00"]
    assert re.split(r"  +", lines[1]) == [*row, f"train: code ({TRAINING})"]
    assert lines[2].endswith("runs: 6 stale; accounts: 3 fresh; training again takes 3.00 hours")
    assert status("--strict")[0] == 1


@pytest.mark.parametrize(
    ("column", "value", "strict", "shown"),
    [("code", None, 1, "4 fresh, 2 unknown"), ("status", "not_run", 0, "4 fresh, 2 missing")],
)
def test_unknown_is_not_fresh_and_missing_is_not_stale(
    suite: Suite, status: Status, column: str, value: str | None, strict: int, shown: str
) -> None:
    suite.set_column("runs", column, value, "lorun")
    code, text = status("--strict")
    assert code == strict
    assert f"runs: {shown}" in text
    assert ("unknown: made before code was recorded; run it again or accept it" in text) == bool(strict)


def test_json_has_every_run(suite: Suite, status: Status) -> None:
    suite.write(COMMON, SOURCE.replace("1", "2"))
    found = json.loads(status("--json")[1])["scratch"]
    assert [result["state"] for result in found] == ["stale"] * 9
    lorun = next(result for result in found if result["method"] == "lorun")
    assert lorun["folder"].startswith("runs/cs/r25/lorun/seed0-")
    assert lorun["run_again"] == ["train", "evaluate"]
    assert lorun["reasons"][0] == {"step": "train", "kind": "code", "details": [COMMON]}


def test_a_run_is_accepted(suite: Suite, status: Status) -> None:
    suite.write(COMMON, SOURCE.replace("1", "2"))
    suite.run_again("lorun")
    assert status("--accept", "scratch/cs/r25/lorun/0")[0] == 0
    assert "runs: 2 fresh, 4 stale; accounts: 3 stale; 2 accepted after a seed was run again" in status()[1]


def test_tables_of_other_scores_than_their_version_are_refused(suite: Suite, status: Status) -> None:
    path = suite.root / "results/scratch/rows.csv"
    path.write_text(path.read_text().replace("30.25", "30.5"))
    assert "rows.csv: not what was written with version.json" in status()[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["results/other"], r"results/other: neither a folder nor a git revision .*"),
        (["--accept", "other/cs/r25/lorun/0"], r"results/other: neither a folder nor a git revision .*"),
        (["results/copy"], r"results/copy: there is no profile config/copy.yaml"),
    ],
)
def test_errors_are_one_line(suite: Suite, status: Status, words: list[str], message: str) -> None:
    (suite.root / "results/copy").mkdir()
    for path in (suite.root / "results/scratch").iterdir():
        suite.write(f"results/copy/{path.name}", path.read_text())
    code, text = status(*words)
    assert code == 1
    assert re.fullmatch(f"error: {message}\n", text)


def test_a_folder_of_no_project_is_named(status: Status, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, text = status()
    assert (code, text) == (1, "error: .: there is no lorun/ here; start from the project's root\n")
