"""Command lines of `lorun`, each in a fork of a process that has done the slow imports.

One starts in milliseconds instead of four seconds of a core.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

# Sent with the three standard streams: the folder and the arguments. The answer is the exit status.
_CLIENT = """\
#!{python} -IS
import os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({address!r})
    socket.send_fds(server, ["\\0".join([os.getcwd(), *sys.argv[1:]]).encode()], [0, 1, 2])
    sys.exit(int(server.recv(16) or b"1"))
"""


class Preloaded:
    """The process that runs command lines of the `lorun` that `environment` finds; `close` ends it."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory()  # a socket's path must be short
        self._address = str(Path(self._folder.name) / "socket")
        command = [sys.executable, "-P", __file__, self._address]
        self._process = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        self._client = Path(self._folder.name) / "lorun"
        python = Path(sys.executable).resolve()
        self._client.write_text(_CLIENT.format(python=python, address=self._address))
        self._client.chmod(0o755)

    def run(self, folder: Path, arguments: list[str]) -> tuple[int, str]:
        """Exit status and output of `lorun ARGUMENTS` in a folder."""
        words = [str(self._client), *arguments]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(words, cwd=folder, text=True, check=False, **streams)
        return done.returncode, done.stdout

    def python(self, folder: Path) -> Path:
        """The Python of a copy of this environment, made in `folder`, in which `lorun` is such a process."""
        (folder / "bin").mkdir(parents=True)
        for program in Path(sys.prefix, "bin").iterdir():
            (folder / "bin" / program.name).symlink_to(self._client if program.name == "lorun" else program)
        (folder / "lib").symlink_to(Path(sys.prefix, "lib"))
        (folder / "pyvenv.cfg").symlink_to(Path(sys.prefix, "pyvenv.cfg"))
        return folder / "bin" / Path(sys.executable).name

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()


def serve(address: str) -> None:
    """Run what clients ask for, several at a time, until this process is killed."""
    import deepinv  # noqa: F401
    import pandas  # noqa: F401
    import peft  # noqa: F401
    import pyiqa  # noqa: F401
    import torch
    from skimage import metrics  # noqa: F401

    from lorun import cli

    torch.set_num_threads(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the forks answer themselves
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while True:
            client, _ = listener.accept()
            message, streams, _, _ = socket.recv_fds(client, 1 << 16, 3)
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for number, stream in enumerate(streams):
                    os.dup2(stream, number)
                folder, *arguments = message.decode().split("\0")
                os.chdir(folder)
                sys.argv = ["lorun", *arguments]
                status = _status(cli.main)
                sys.stdout.flush()
                sys.stderr.flush()
                client.send(str(status).encode())
                os._exit(0)
            for stream in streams:
                os.close(stream)
            client.close()


def _status(main: Callable[[], None]) -> int:
    """The exit status of a program that ends like this function."""
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
