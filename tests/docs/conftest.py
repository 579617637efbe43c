"""A reader who has followed docs/start.md."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from reader import Reader, make_reader

_RUN = "-c config/quick.yaml --task cs --setting r25"
REPRODUCE = (
    f"lorun train {_RUN} --method pretrain",
    f"lorun train {_RUN} --method lorun",
    f"lorun evaluate {_RUN} --method lorun",
    f"lorun account {_RUN} --method lorun --no-latency",
    "lorun table -c config/quick.yaml",
)
"""The commands of `make reproduce` for the profile `quick` as `reader` cuts it, after `make data`. tests/workflow runs
Snakemake."""


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """A reader who has followed docs/start.md. Do not change its folder: make a copy."""
    if not Path(sys.prefix, ".installed").exists():
        pytest.skip(f"{sys.prefix} was not made by `make setup`, so `make` would install an environment")
    reader = make_reader(tmp_path_factory.mktemp("pages") / "project")
    data = reader.called_by_make("data")
    for command in (data, *REPRODUCE):
        status, output = reader.run(command)
        assert status == 0, output
    reader.follow("docs/start.md")
    yield reader
    reader.close()
