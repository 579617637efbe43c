"""A small project with a result set, to be edited."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from recorded import COMMON, COUNTING, LOCK, OF_METHOD, REGISTRY, SCORING, SOURCE, TRAINING, Suite, write_results
from tiny import PROFILE


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """The project, which is the current folder."""
    suite = Suite(tmp_path / "project")
    task = {**PROFILE["tasks"]["cs"], "strategies": ["block_k", "lorun"]}  # type: ignore[index]
    profile = {"profile": "scratch", "seeds": [0, 1], "tasks": {"cs": task}}
    suite.write("config/scratch.yaml", yaml.safe_dump(profile, sort_keys=False))
    suite.write("data/registry.yaml", yaml.safe_dump(REGISTRY))
    suite.write("data/tiny.md5", f"{'0' * 32}  tiny/test/gray/checks.png\n")
    suite.write("requirements.lock", LOCK)
    for path in ("lorun/__init__.py", COMMON, TRAINING, SCORING, COUNTING, "lorun/unloaded.py", *OF_METHOD.values()):
        suite.write(path, SOURCE)
    write_results(suite)
    monkeypatch.chdir(suite.root)
    return suite


@pytest.fixture
def tables(suite: Suite) -> Callable[[], dict[str, bytes]]:
    """The files of the result set, by name."""
    return lambda: {path.name: path.read_bytes() for path in (suite.root / "results" / "scratch").iterdir()}
