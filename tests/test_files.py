"""Files that are written atomically."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lorun.files import write_text


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """So is /dev/null, which a run as root would otherwise replace by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(pipe.read_text)
        write_text(pipe, "scores\n")
        assert read.result(timeout=10) == "scores\n"
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    leader, follower = os.openpty()
    try:
        name = os.ttyname(follower)
        write_text(name, "scores\n")
        assert os.read(leader, 100).strip() == b"scores"
        assert stat.S_ISCHR(os.stat(name).st_mode)
    finally:
        os.close(leader)
        os.close(follower)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("long content before")
    write_text(path, "new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]
