"""Data-parallel training of one run by the processes that `torchrun` or `srun` starts; without it there is one process.

Each process has the whole network and computes on its share of every batch. Gradients and losses are averaged, so all
processes have the same weights, equal to those of a single process up to rounding. Only the main process writes files.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lorun.errors import LorunError

Answer = TypeVar("Answer")

# How long a process waits for the others: reading data and writing checkpoints takes minutes on slow disks. A process
# that ends is noticed at once; the timeout is for one that hangs.
_TIMEOUT = timedelta(minutes=30)


@dataclass
class Group:
    """This process and the others that train the same run.

    Attributes:
        rank: 0 for the main process.
        size: number of processes.
        in_step: false after an error, when the processes can no longer wait for each other (see `leave`).
    """

    rank: int = 0
    size: int = 1
    in_step: bool = True

    @property
    def main(self) -> bool:
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """The part of a batch that belongs to this process.

        Raises:
            LorunError: the batch cannot be split evenly.
        """
        if batch % self.size:
            divisors = [size for size in range(1, batch + 1) if batch % size == 0]
            raise LorunError(
                f"{self.size} processes cannot share a batch of {batch} patches evenly; start {_or(divisors)}, or "
                "change `training.batch`"
            )
        each = batch // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def sum(self, value: Tensor) -> Tensor:
        """The sum over the processes, the same in all."""
        if self.size == 1:
            return value
        total = value.clone()
        dist.all_reduce(total)
        return total

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the processes, the same in all."""
        return value if self.size == 1 else self.sum(value / self.size)

    def from_main(self, ask: Callable[[], Answer]) -> Answer:
        """Call `ask` in the main process only; return its answer in all."""
        if self.size == 1:
            return ask()
        answers: list[Answer | None] = [ask() if self.main else None]
        dist.broadcast_object_list(answers, src=0)
        return answers[0]  # type: ignore[return-value]

    def replicate(self, system: nn.Module) -> nn.Module:
        """Copy the main process's weights to all; return a module whose backward pass averages gradients.

        Raises:
            LorunError: a layer normalises over the batch, and each process sees only its share.
        """
        if self.size == 1:
            return system
        for name, layer in system.named_modules():
            if isinstance(layer, _BatchNorm):
                raise LorunError(
                    f"layer `{name}` ({type(layer).__name__}) normalises over the batch, which {self.size} processes "
                    "share: train in one process"
                )
        replica = nn.parallel.DistributedDataParallel(system, gradient_as_bucket_view=True)
        replica.broadcast_buffers = False  # no step changes buffers; the copy that was just made is enough
        return replica

    def leave(self) -> None:
        """Skip the final barrier: the other processes may be waiting in the middle of a step."""
        self.in_step = False


@contextmanager
def process_group(device: torch.device) -> Iterator[tuple[Group, torch.device]]:
    """Join the processes that torchrun or srun started, if any; yield their group and the device of this process.

    `device` gives the type; on a GPU machine each process gets its own GPU.

    Raises:
        LorunError: more processes than GPUs, or processes of srun on several nodes.
    """
    launched = dist.is_available() and (dist.is_torchelastic_launched() or _named_by_srun())
    if not launched or os.environ["WORLD_SIZE"] == "1":
        yield Group(), device
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        device = _own_gpu(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=_TIMEOUT, device_id=device if on_gpu else None)
    group = Group(dist.get_rank(), dist.get_world_size())
    yield group, device
    # After an exception there is no barrier: the other processes would not reach it, and torchrun ends them.
    if group.in_step:
        dist.barrier()  # a failing exit status ends all processes, so let the main process print its message first
        dist.destroy_process_group()


def is_loss_of_another(error: RuntimeError) -> bool:
    """Whether the error means that another process of the group has ended or hangs."""
    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)  # gloo raises plain RuntimeErrors


def _named_by_srun() -> bool:
    """Whether srun started this process; then it gets the variables that torchrun would set."""
    slurm = {name.removeprefix("SLURM_"): value for name, value in os.environ.items() if name.startswith("SLURM_")}
    if "STEP_NUM_TASKS" not in slurm:  # a batch script has the other variables too
        return False
    if slurm["STEP_NUM_NODES"] != "1" and slurm["STEP_NUM_TASKS"] != "1":
        raise LorunError(f"srun: one training runs on one node, not on {slurm['STEP_NUM_NODES']}: use --nodes 1")
    os.environ |= {"RANK": slurm["PROCID"], "LOCAL_RANK": slurm["LOCALID"]}
    os.environ |= dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), slurm["STEP_NUM_TASKS"])
    port = 20_000 + (7 * int(slurm["JOB_ID"]) + int(slurm["STEP_ID"])) % 10_000  # another for each step
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return True


def _own_gpu(rank: int) -> torch.device:
    count = torch.cuda.device_count()
    if count == 1 and "SLURM_STEP_NUM_TASKS" in os.environ:  # `srun --gpus-per-task 1` shows each process its own
        rank = 0
    if rank >= count:
        here = os.environ["LOCAL_WORLD_SIZE"]
        raise LorunError(f"{here} processes on a machine with {count} GPUs; start {count} at most, or use --device cpu")
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    return device


def _or(numbers: list[int]) -> str:
    *others, last = map(str, numbers)
    return f"{', '.join(others)} or {last}" if others else last
