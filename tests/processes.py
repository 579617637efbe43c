"""Processes of LoRun, alone or in a group, forked from a server that has imported PyTorch and LoRun once.

A start of Python that imports them takes 6 seconds of a core. Processes in a copy of the project import its code anew.
"""

import importlib
import json
import multiprocessing
import os
import resource
import shlex
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import NoReturn
from unittest import mock

Target = Callable[..., None]

SERVER = multiprocessing.get_context("forkserver")
_SLOW = ("deepinv", "pandas", "peft", "pyiqa", "skimage.metrics", "snakemake.cli")
SERVER.set_forkserver_preload([*_SLOW, "lorun.cli", "lorun.training", "lorun.evaluation.reconstruct"])


def _child(rank: int, size: int, port: int, output: Path, target: Target, arguments: tuple[object, ...]) -> NoReturn:
    """Call `target` in the environment of torchrun, with the streams in files; exit like a program."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    names |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "tests"}
    os.setsid()
    os.environ.update({name: str(value) for name, value in names.items()})
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(output / f"{name}{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    import torch

    torch.set_num_threads(1)
    _end_like(target, *arguments)


def _end_like(target: Callable[..., object], *arguments: object) -> NoReturn:
    """Exit as a program does that calls `target`."""
    status: object = 0
    try:
        target(*arguments)
    except SystemExit as end:
        status = end.code or 0
        if not isinstance(status, int):
            print(status, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


@dataclass
class Processes:
    """The processes of one group and the folder with what they print."""

    folder: Path
    processes: list[BaseProcess]

    def out(self, rank: int) -> str:
        return self._text(f"out{rank}.txt")

    def err(self, rank: int) -> str:
        return self._text(f"err{rank}.txt")

    def _text(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def shown(self) -> str:
        """Everything that any process printed."""
        return "".join(self.out(rank) + self.err(rank) for rank in range(len(self.processes)))

    def exit_codes(self, patience: float = 300) -> list[int | None]:
        """Wait for all processes to end; minus the number of a signal where one ended them."""
        deadline = time.monotonic() + patience
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        self.kill()
        return codes

    def wait_until(self, ready: Callable[[], bool], patience: float = 300) -> None:
        """Wait for a condition, while all processes run."""
        deadline = time.monotonic() + patience
        while not ready():
            assert all(process.is_alive() for process in self.processes), self.shown()
            assert time.monotonic() < deadline, self.shown()
            time.sleep(0.005)

    def kill(self) -> None:
        """kill -9 of all and of what they started."""
        for process in self.processes:
            process.kill()
            with suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()


def start_processes(folder: Path, count: int, target: Target, *arguments: object) -> Processes:
    """Start processes that call `target`, a function of a module that they can import; they print into `folder`."""
    folder.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes: list[BaseProcess] = []
    for rank in range(count):
        process = SERVER.Process(target=_child, args=(rank, count, port, folder, target, arguments), daemon=True)
        process.start()
        processes.append(process)
    return Processes(folder, processes)


# Copies of the project


def run_in_copy(
    root: Path, environment: Mapping[str, str], target: Target, *arguments: object, patience: float = 600
) -> "subprocess.CompletedProcess[str]":
    """Call `target` in a process of its own with the code of the copy in `root`, to its end."""
    with TemporaryDirectory() as name:
        one = start_processes(Path(name, "printed"), 1, _in_copy, root, dict(environment), target, arguments)
        (status,) = one.exit_codes(patience)
        assert status is not None, f"not done after {patience} s: {one.shown()}"
        return subprocess.CompletedProcess([target.__name__], status, one.out(0), one.err(0))


def _in_copy(root: Path, environment: dict[str, str], target: Target, arguments: Sequence[object]) -> None:
    os.chdir(root)
    os.environ.clear()
    os.environ.update(environment)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("lorun", "preloaded")]:
        del sys.modules[name]
    project = Path(__file__).parents[1]
    own = {"", *(str(project / part) for part in (".", "tests", "workflow"))}
    sys.path[:] = [str(root), str(root / "workflow"), *(path for path in sys.path if path not in own)]
    importlib.invalidate_caches()
    target(*arguments)


@contextmanager
def preloaded_in_copy(root: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    """As `preloaded` of workflow/preloaded.py, with the code of a copy, in a fork."""
    import preloaded

    class Server:
        """In place of the `subprocess.Popen` that starts the server."""

        def __init__(self, words: Sequence[str], **_: object) -> None:
            ours, self._end = SERVER.Pipe(duplex=False)
            with socket.socket(fileno=os.dup(int(words[-1]))) as listener:
                arguments = (root, dict(environment), _serve, (listener, ours))
                self._process = SERVER.Process(target=_in_copy, args=arguments)
                self._process.start()
            ours.close()

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            self._end.close()
            self._process.join()

    with mock.patch.object(preloaded, "subprocess", SimpleNamespace(Popen=Server, PIPE=subprocess.PIPE)):
        context = preloaded.preloaded(environment)
        folder = context.__enter__()
    try:
        yield folder
    finally:
        context.__exit__(None, None, None)


def _serve(listener: socket.socket, end: Connection) -> None:
    import preloaded

    sys.stdin = os.fdopen(os.dup(end.fileno()))
    preloaded._serve(listener)


def launch(words: Sequence[str]) -> None:
    """`python workflow/launch.py WORDS`, whose Snakemake is a fork as well."""
    import launch
    from snakemake.cli import main

    class Snakemake:
        """In place of `subprocess.Popen`."""

        def __init__(self, words: list[str], pass_fds: Sequence[int]) -> None:
            sys.stdout.flush()
            self.pid = os.fork()
            if self.pid == 0:
                sys.argv = words
                _end_like(main)

        def wait(self) -> int:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

        def send_signal(self, number: int) -> None:
            os.kill(self.pid, number)

    launch.subprocess = SimpleNamespace(Popen=Snakemake, run=subprocess.run)
    sys.argv = ["launch.py", *words]
    sys.exit(launch.main())


def python(text: str) -> None:
    """`python -c TEXT`"""
    exec(compile(text, "<string>", "exec"), {"__name__": "__main__"})


def sphinx(words: Sequence[str]) -> None:
    """`sphinx-build WORDS`"""
    from sphinx.cmd.build import main

    sys.exit(main(words))


def commands(lines: Sequence[str], may_fail: str = "") -> None:
    """Run lines of commands of `lorun` up to the first that fails, and print as JSON what each one printed.

    The one that ends with `may_fail` may. The last one may be of pytest.
    """
    from typer.testing import CliRunner

    from lorun.cli import app

    printed = {}
    for line in lines:
        program, *words = shlex.split(line)
        if program == "pytest":
            import pytest

            assert pytest.main(words) == 0
        else:
            result = CliRunner().invoke(app, words)
            printed[line] = result.output if not result.exception or result.exit_code == 0 else repr(result.exception)
            if result.exit_code and not (may_fail and line.endswith(may_fail)):
                sys.exit(f"{line}: {printed[line]}")
    print(json.dumps(printed))


# What the processes do


def train_all(profile: Path, runs: Path, data: Path, names: list[str]) -> None:
    """Train experiments, "task/setting/method" each, one after another in one group."""
    import torch

    from lorun.errors import LorunError
    from lorun.profiles import load_profile
    from lorun.training import train
    from lorun.training.distributed import process_group

    loaded = load_profile(profile)
    with process_group(torch.device("cpu")) as (group, device):
        for name in names:
            task, setting, method = name.split("/")
            try:
                train(loaded.experiment(task, setting, method, 0), runs=runs, data=data, device=device, group=group)
            except LorunError as error:
                print(f"refused {name}: {error}", flush=True)


def command(words: list[str], failure: str | None = None, folder: str | None = None) -> None:
    """`lorun WORDS`; the process writes its id into `folder`.

    `failure` plants one: "stops" (process 1 sleeps before step 20), "memory" (process 1 runs out of it in its third
    step), "disk" (the weights cannot be written), "slow" (every step waits) or "small files" (10 kB at most).
    """
    import torch

    from lorun import cli
    from lorun.errors import LorunError
    from lorun.training import loop
    from lorun.training.patches import PatchStream
    from lorun.unfolding import UnfoldingNetwork

    rank = int(os.environ.get("RANK", 0))
    if folder is not None:
        Path(folder, f"pid{rank}").write_text(str(os.getpid()))
    batch, forward, calls = PatchStream.batch, UnfoldingNetwork.forward, []

    def late_batch(self: PatchStream, step: int) -> torch.Tensor:
        if failure == "slow":
            time.sleep(0.05)
        elif step >= 20 and rank == 1:
            time.sleep(600)
        return batch(self, step)

    def fail_at_three(self: UnfoldingNetwork, *arguments: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("out of memory in one process")
        return forward(self, *arguments)

    def fail(*_: object) -> None:
        raise LorunError("cannot write weights: No space left on device")

    if failure in ("stops", "slow"):
        PatchStream.batch = late_batch
    elif failure == "memory" and rank == 1:
        UnfoldingNetwork.forward = fail_at_three
        loop.step_flops = lambda experiment: 1  # counting makes a step too
    elif failure == "disk":
        loop.save_weights = fail
    elif failure == "small files":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    sys.argv = ["lorun", *words]
    cli.main()
