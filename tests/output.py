"""What a command line gave, to the tests that run one (the fixture `lorun` of tests/cli)."""

from typing import NamedTuple


class Output(NamedTuple):
    status: int
    out: str
    err: str
