"""Commands in forks of one process, as the launcher runs them."""

import os
import re
import subprocess

import pytest
from preloaded import preloaded

from lorun import __version__


@pytest.fixture(scope="module")
def lorun():
    """The program that calls the server."""
    with preloaded() as folder:
        yield folder / "lorun"


def run(program, *arguments, folder=None, **variables):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        [program, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_a_fork_has_the_arguments_streams_folder_and_status_of_an_ordinary_process(lorun, tmp_path):
    done = run(lorun, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"lorun {__version__}\n", "")
    (tmp_path / "my profile.yaml").write_text("profile: [")
    done = run(lorun, "config", "check", "my profile.yaml", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: my profile.yaml")
    assert done.stderr.count("\n") == 1
    assert run(lorun, "trian").returncode == 2


def test_without_a_server_the_command_is_an_ordinary_process(lorun, tmp_path):
    alone = tmp_path / "lorun"
    alone.write_text(re.sub(r"connect\('.*?'\)", f"connect('{tmp_path}/none')", lorun.read_text()))
    alone.chmod(0o755)
    done = run(alone, "--version")
    assert (done.returncode, done.stdout) == (0, f"lorun {__version__}\n")


def test_an_environment_that_is_too_long_to_send_makes_an_ordinary_process(lorun):
    done = run(lorun, "--version", A="x" * 100_000, B="x" * 100_000)
    assert (done.returncode, done.stdout) == (0, f"lorun {__version__}\n")
