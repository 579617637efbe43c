"""The launcher in this process, for what it refuses."""

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from tiny import PROJECT


@pytest.fixture
def launch() -> ModuleType:
    """workflow/launch.py as a module."""
    spec = importlib.util.spec_from_file_location("launch", PROJECT / "workflow/launch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def refused(
    launch: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., str]:
    """Run a launcher in this process; it must end with status 1 and one line on stderr, which is returned."""
    monkeypatch.chdir(tmp_path)  # the launcher goes elsewhere: come back
    monkeypatch.setenv("PATH", os.environ["PATH"])

    def refused(root: Path, *options: str, printed: str = "") -> str:
        monkeypatch.setattr(launch, "ROOT", root)
        monkeypatch.setattr(sys, "argv", ["launch.py", *options])
        assert launch.main() == 1
        out, err = capsys.readouterr()
        assert out.startswith(printed)
        assert out.count("\n") == (1 if printed else 0)
        assert err.count("\n") == 1
        return err.removeprefix("error: ").removesuffix("\n")

    return refused
