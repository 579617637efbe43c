import shutil
from pathlib import Path

import pytest

from lorun.data import photos

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the dataset photos, built anew, and the committed manifest; not to be changed."""
    root = tmp_path_factory.mktemp("built") / "data"
    photos.build(root / "photos")
    for name in ("photos.md5", "registry.yaml"):
        shutil.copy(PROJECT / "data" / name, root)
    return root


@pytest.fixture
def root(built: Path, tmp_path: Path) -> Path:
    """A copy of `built` to damage."""
    return shutil.copytree(built, tmp_path / "data")
