"""Two processes that train together, forked from a server that has imported PyTorch and LoRun once."""

import multiprocessing
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NoReturn

Target = Callable[..., None]

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["lorun.cli", "lorun.training", "lorun.evaluation.reconstruct", "peft"])


def _child(rank: int, port: int, output: Path, target: Target, arguments: tuple[object, ...]) -> NoReturn:
    """Call `target` in the environment of torchrun, with the streams in files; exit like a program."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    names |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "tests"}
    os.environ.update({name: str(value) for name, value in names.items()})
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(output / f"{name}{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    import torch

    torch.set_num_threads(1)
    status: object = 0
    try:
        target(*arguments)
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


@dataclass
class Pair:
    """Two processes of one group and the folder with what they print."""

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
        """Everything that either process printed."""
        return "".join(self.out(rank) + self.err(rank) for rank in range(2))

    def exit_codes(self, patience: float = 300) -> list[int | None]:
        """Wait for both processes to end; the negative number of a signal if one killed them."""
        deadline = time.monotonic() + patience
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        self.kill()
        return codes

    def wait_until(self, ready: Callable[[], bool], patience: float = 300) -> None:
        """Wait for a condition, while both processes run."""
        deadline = time.monotonic() + patience
        while not ready():
            assert all(process.is_alive() for process in self.processes), self.shown()
            assert time.monotonic() < deadline, self.shown()
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9 of both."""
        for process in self.processes:
            process.kill()
            process.join()


def start_pair(folder: Path, target: Target, *arguments: object) -> Pair:
    """Start two processes that call `target`, a function of a module that they can import."""
    folder.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes: list[BaseProcess] = []
    for rank in range(2):
        process = _SERVER.Process(target=_child, args=(rank, port, folder, target, arguments), daemon=True)
        process.start()
        processes.append(process)
    return Pair(folder, processes)


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
    """`lorun WORDS`; `failure` plants one: "stops" (process 1 before step 20), "memory" (process 1 in its third step)
    or "disk" (when the weights are written). The process writes its id into `folder`."""
    import torch

    from lorun import cli
    from lorun.data.patches import PatchStream
    from lorun.errors import LorunError
    from lorun.training import loop
    from lorun.unfolding import UnfoldingNetwork

    rank = os.environ["RANK"]
    if folder is not None:
        Path(folder, f"pid{rank}").write_text(str(os.getpid()))
    second = rank == "1"
    if failure == "stops" and second:
        batch = PatchStream.batch
        PatchStream.batch = lambda self, step: batch(self, step) if step < 20 else time.sleep(600)  # type: ignore
    if failure == "memory" and second:
        forward, calls = UnfoldingNetwork.forward, []

        def fail_at_three(self: object, y: object, physics: object) -> object:
            calls.append(1)
            if len(calls) == 3:
                raise torch.OutOfMemoryError("out of memory in one process")
            return forward(self, y, physics)  # type: ignore

        UnfoldingNetwork.forward = fail_at_three  # type: ignore
    if failure == "disk":

        def fail(*_: object) -> None:
            raise LorunError("cannot write weights: No space left on device")

        loop.save_weights = fail
    sys.argv = ["lorun", *words]
    cli.main()
