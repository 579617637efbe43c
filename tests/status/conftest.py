"""A small project with a result set, to be edited."""

import shutil
from pathlib import Path

import pytest
import yaml
from recorded import COMMON, COUNTING, LOCK, OF_METHOD, REGISTRY, SCORING, SOURCE, TRAINING, Suite, write_results
from tiny import PROFILE


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as `suite` begins. Not to be changed."""
    suite = Suite(tmp_path_factory.mktemp("status") / "project")
    task = {**PROFILE["tasks"]["cs"], "strategies": ["block_k", "lorun"]}  # type: ignore[index]
    profile = {"profile": "scratch", "seeds": [0, 1], "tasks": {"cs": task}}
    suite.write("config/scratch.yaml", yaml.safe_dump(profile, sort_keys=False))
    suite.write("data/registry.yaml", yaml.safe_dump(REGISTRY))
    suite.write("data/tiny.md5", f"{'0' * 32}  tiny/test/gray/checks.png\n")
    suite.write("requirements.lock", LOCK)
    for path in ("lorun/__init__.py", COMMON, TRAINING, SCORING, COUNTING, "lorun/unloaded.py", *OF_METHOD.values()):
        suite.write(path, SOURCE)
    write_results(suite)
    return suite.root


@pytest.fixture
def suite(planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """The project, to be edited; it is the current folder."""
    root = tmp_path / "project"
    shutil.copytree(planted, root)
    monkeypatch.chdir(root)
    return Suite(root)
