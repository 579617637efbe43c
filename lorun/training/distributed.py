"""The processes that train one run together, as `torchrun` starts them; without it there is one, alone.

Each has the whole network and computes on its share of every batch; gradients and losses are averaged, so that the
weights stay the same in all, and equal those of one process but for rounding. The main process alone writes.
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

# How long a process waits for another one. All wait for data to be read and checkpoints to be written, which takes
# minutes where disks are slow; a process that ends is noticed at once, this is for one that stands still.
_PATIENCE = timedelta(minutes=30)


@dataclass
class Group:
    """This process and those beside it.

    Attributes:
        rank: 0 for the main process.
        size: number of processes.
        in_step: false once the others can no longer count on this process, nor it on them (see `leave`).
    """

    rank: int = 0
    size: int = 1
    in_step: bool = True

    @property
    def main(self) -> bool:
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """Which patches of a batch are this process's.

        Raises:
            LorunError: the processes do not divide the batch.
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
        """What `ask` returns in the main process, which alone calls it."""
        if self.size == 1:
            return ask()
        answers: list[Answer | None] = [ask() if self.main else None]
        dist.broadcast_object_list(answers, src=0)
        return answers[0]  # type: ignore[return-value]

    def replicate(self, system: nn.Module) -> nn.Module:
        """`system`, made equal in all processes; a backward pass through what is returned averages gradients.

        Raises:
            LorunError: a layer normalises over the batch, of which each process sees its share only.
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
        replica.broadcast_buffers = False  # no step changes them, so that once, as just now, is enough
        return replica

    def leave(self) -> None:
        """End without a farewell, for which the others, who may be waiting in the middle of a step, would not come."""
        self.in_step = False


@contextmanager
def process_group(device: torch.device) -> Iterator[tuple[Group, torch.device]]:
    """Join the processes that torchrun started, if it did: their group, and the device of this one.

    `device` says which kind; each process on a machine has a GPU of its own.

    Raises:
        LorunError: more processes than GPUs.
    """
    if not dist.is_available() or not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield Group(), device
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        device = _own_gpu(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=_PATIENCE, device_id=device if on_gpu else None)
    group = Group(dist.get_rank(), dist.get_world_size())
    yield group, device
    # After an exception, or out of step, the others would not come. Where one process fails, torchrun ends them.
    if group.in_step:
        dist.barrier()  # an exit status of failure ends the others too: not before the main process has said its say
        dist.destroy_process_group()


def is_loss_of_another(error: RuntimeError) -> bool:
    """Whether this is how a process learns that another one of its group has ended, or stands still."""
    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)  # gloo has no errors of its own


def _own_gpu(rank: int) -> torch.device:
    count = torch.cuda.device_count()
    if rank >= count:
        here = os.environ["LOCAL_WORLD_SIZE"]
        raise LorunError(f"{here} processes on a machine with {count} GPUs; start {count} at most, or use --device cpu")
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    return device


def _or(numbers: list[int]) -> str:
    *others, last = map(str, numbers)
    return f"{', '.join(others)} or {last}" if others else last
