"""A reader of the documentation."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from reader import Reader, make_reader


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """One who has done what the page `start` says. Not to be changed: make a copy."""
    if not Path(sys.prefix, ".installed").exists():
        pytest.skip(f"{sys.prefix} is no environment of `make setup`, and `make` would set one up")
    reader = make_reader(tmp_path_factory.mktemp("pages") / "project")
    reader.follow("docs/start.md")
    yield reader
    reader.close()
