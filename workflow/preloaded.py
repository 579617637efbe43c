"""Commands of `lorun` in forks of one process that has done the slow imports: each saves 6 seconds of a core.

The launcher puts a program `lorun` first on the PATH, which sends its working directory, arguments, environment and
standard streams to the server. Where no server answers, it runs the ordinary `lorun`. The server does the imports when
the first command comes, and ends with the process that started it; a command that runs then goes on to its end.
"""

import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

_LONGEST = 1 << 17  # bytes of a message
_CLIENT = """\
#!{python} -IS
import json, os, socket, sys
try:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.connect({address!r})
    message = json.dumps([os.getcwd(), sys.argv[1:], dict(os.environ)]).encode()
    if len(message) > {longest}:
        raise OSError
    socket.send_fds(server, [message], [0, 1, 2])
except OSError:
    os.execv({ordinary!r}, [{ordinary!r}, *sys.argv[1:]])
sys.exit(int(server.recv(16) or b"1"))
"""


@contextmanager
def preloaded(environment: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """A server that lives as long as this context: yields the folder of the program that calls it."""
    with tempfile.TemporaryDirectory(prefix="lorun-") as name:  # the path of a socket must be short
        folder = Path(name)
        address = str(folder / "socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(address)
            listener.listen(64)
            command = [sys.executable, "-P", __file__, str(listener.fileno())]
            server = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, pass_fds=[listener.fileno()])
        client = folder / "lorun"
        ordinary = str(Path(sys.executable).with_name("lorun"))
        python = os.path.realpath(sys.executable)
        client.write_text(_CLIENT.format(python=python, address=address, longest=_LONGEST, ordinary=ordinary))
        client.chmod(0o755)
        with server:  # its end waits for the server's
            yield folder


def _serve(listener: socket.socket) -> None:
    """Run what clients ask for, several at a time, until standard input is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the forks answer themselves
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the forks get it too
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        client, _ = listener.accept()
        message, streams, _, _ = socket.recv_fds(client, _LONGEST + 1, 3)
        if len(streams) == 3:
            _import_slow_packages()
            if os.fork() == 0:
                listener.close()
                _run(client, streams, *json.loads(message))
        for stream in streams:
            os.close(stream)
        client.close()


def _import_slow_packages() -> None:
    logging.disable()  # bitsandbytes, which pyiqa brings, complains of a package that nothing here needs
    for name in ("deepinv", "pandas", "peft", "pyiqa", "torch", "skimage.metrics", "lorun.cli"):
        import_module(name)
    logging.disable(logging.NOTSET)


def _run(client: socket.socket, streams: list[int], folder: str, arguments: list[str], env: dict[str, str]) -> None:
    """Be the command: with the streams and the environment of the client, whose end is this one's."""
    from torch import set_num_threads

    from lorun import cli

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    set_num_threads(int(env.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))))
    sys.argv = ["lorun", *arguments]
    threading.Thread(target=_end_with, args=(client,), daemon=True).start()
    status = _status(cli.main)
    sys.stdout.flush()
    sys.stderr.flush()
    client.send(str(status).encode())
    os._exit(0)


def _end_with(client: socket.socket) -> None:
    client.recv(1)  # returns when the client ended
    os.kill(os.getpid(), signal.SIGTERM)


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
    _serve(socket.socket(fileno=int(sys.argv[1])))
