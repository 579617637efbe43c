"""A reader who has followed docs/start.md."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from reader import Reader, make_reader


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader who has followed docs/start.md. Do not change its folder: make a copy."""
    if not Path(sys.prefix, ".installed").exists():
        pytest.skip(f"{sys.prefix} was not made by `make setup`, so `make` would install an environment")
    reader = make_reader(tmp_path_factory.mktemp("pages") / "project")
    reader.follow("docs/start.md")
    yield reader
    reader.close()
