"""Processes of LoRun, alone or in a group, forked from a server that has imported PyTorch and LoRun once."""

import multiprocessing
import os
import resource
import signal
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


def _child(rank: int, size: int, port: int, output: Path, target: Target, arguments: tuple[object, ...]) -> NoReturn:
    """Call `target` in the environment of torchrun, with the streams in files; exit like a program."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
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
        """kill -9 of all."""
        for process in self.processes:
            process.kill()
            process.join()


def start_processes(folder: Path, count: int, target: Target, *arguments: object) -> Processes:
    """Start processes that call `target`, a function of a module that they can import; they print into `folder`."""
    folder.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes: list[BaseProcess] = []
    for rank in range(count):
        process = _SERVER.Process(target=_child, args=(rank, count, port, folder, target, arguments), daemon=True)
        process.start()
        processes.append(process)
    return Processes(folder, processes)


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

    rank = int(os.environ["RANK"])
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
