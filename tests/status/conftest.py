"""A project in a git repository of its own."""

import shutil
from pathlib import Path

import pytest
import yaml
from scratch import LOCK, PROFILE, Scratch, git, write_tables
from tiny import PROJECT


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed: `scratch` is a clone of it."""
    root = tmp_path_factory.mktemp("status") / "project"
    no_bytecode = shutil.ignore_patterns("__pycache__")
    for folder in ("lorun", "baselines", "config"):
        shutil.copytree(PROJECT / folder, root / folder, ignore=no_bytecode)
    (root / "data").mkdir()
    for path in [*PROJECT.glob("data/*.md5"), PROJECT / "data" / "registry.yaml"]:
        shutil.copy(path, root / "data")
    (root / "requirements.lock").write_text(LOCK)
    (root / "config" / "scratch.yaml").write_text(yaml.safe_dump(PROFILE, sort_keys=False))
    git(root.parent, "init", "--quiet", "--initial-branch=main", str(root))
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "Code")
    commit = git(root, "rev-parse", "HEAD")
    for name in ("scratch", "published", "tasks"):
        write_tables(root, name, commit)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "Results")
    return root


@pytest.fixture
def scratch(pristine: Path, tmp_path: Path) -> Scratch:
    """A clone of the project, to be edited."""
    root = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(pristine), str(root))
    return Scratch(root, git(root, "rev-parse", "HEAD~1"))
