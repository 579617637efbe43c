"""The command line, run in the test's own process."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from said import Said

from lorun import cli


@pytest.fixture
def lorun(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Said]:
    """Run a command line in a folder of its own: lorun("data", "list")."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def lorun(*words: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["lorun", *map(str, words)])
        capsys.readouterr()
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        out, err = (re.sub(r"\x1b\[[0-9;]*m", "", text) for text in capsys.readouterr())
        return Said(status, out, err)

    return lorun
