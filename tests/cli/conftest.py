"""The command line, run in the test's own process."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from output import Output

from lorun import cli


@pytest.fixture
def lorun(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Output]:
    """Run a command line in a folder of its own: lorun("data", "list")."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def lorun(*words: object) -> Output:
        monkeypatch.setattr(sys, "argv", ["lorun", *map(str, words)])
        capsys.readouterr()
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        out, err = (re.sub(r"\x1b\[[0-9;]*m", "", text) for text in capsys.readouterr())
        return Output(status, out, err)

    return lorun


@pytest.fixture
def error(lorun: Callable[..., Output]) -> Callable[..., str]:
    """Run a command line that must fail with status 1 and one line on stderr; return it: error("show", "nowhere")."""

    def error(*words: object) -> str:
        status, _, err = lorun(*words)
        assert status == 1
        assert err.startswith("error: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        return err.removeprefix("error: ").removesuffix("\n")

    return error


@pytest.fixture
def options(tiny_profile_file: Path, tiny_data: Path) -> Callable[..., list[object]]:
    """A command for a run of the tiny profile, with changed options: options("train", method="shared", data=None)."""

    def options(command: str, **changes: object) -> list[object]:
        chosen = {"config": tiny_profile_file, "task": "cs", "setting": "r25", "method": "linear_mmse", "device": "cpu"}
        chosen |= {"data": tiny_data} | changes
        words: list[object] = [command]
        for name, value in chosen.items():
            words += [] if value is None else [f"--{name}", value]
        return words

    return options
