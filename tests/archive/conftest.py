"""A small result set in a project of its own, and its archive."""

import shutil
from pathlib import Path

import pytest
import yaml
from archived import Made
from made_up import write_runs
from tiny import PROFILE, PROJECT

from lorun.profiles import load_profile
from lorun.results.result_set import write_result_set


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Made:
    """A profile that extends another, its result set without figures, and the archive. Read only."""
    root = tmp_path_factory.mktemp("made")
    (root / "config").mkdir()
    base = {**PROFILE, "profile": "base"}
    (root / "config/base.yaml").write_text(yaml.safe_dump(base, sort_keys=False))
    config = root / "config/tiny.yaml"
    config.write_text("extends: base.yaml\nprofile: tiny\nseeds: [0, 1]\n")
    for name in ("CITATION.cff", "LICENSE"):
        shutil.copy(PROJECT / name, root / name)
    profile = load_profile(config)
    runs = write_runs(profile, root / "runs", "checks", "blobs")
    write_result_set(profile, runs, root / "results/tiny", data=tiny_data)
    project = Made(root, config, root / "results/tiny", tiny_data, root / "tiny.zip")
    project.write(project.archive)
    return project


@pytest.fixture
def unpacked(made: Made, tmp_path: Path) -> Path:
    """The archive, unpacked into a folder that tests may change."""
    shutil.unpack_archive(made.archive, tmp_path / "unpacked")
    return tmp_path / "unpacked"
