"""Bytes of live tensor storages while a network is trained or used.

Every storage that an operator reads or returns counts from then until it is freed: once, whatever views it has, at
full size. Parameters, buffers, optimiser states and the input count from the start. Allocator rounding, scratch space
inside kernels and the CUDA context do not count. The figures depend only on the operators called and their shapes, so
they need no GPU, are the same on every machine, and are the same on fake tensors (no memory, seconds for a step of tens
of GiB) as on real ones. The operators are those that PyTorch calls for CPU tensors.

One exception is known: real tensors count more bytes if a kernel returns a small tensor in a larger storage, as
``torch.nn.functional.fold`` does.
"""

import gc
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lorun.accounting.building import Build, image_batch, make_modules, separate_operators
from lorun.accounting.fake import fake_tensors
from lorun.config import TrainingConfig
from lorun.errors import LorunError
from lorun.step import Phase, make_average, make_optimizer, training_step
from lorun.system import System

if TYPE_CHECKING:
    from deepinv.physics import LinearPhysics

Kind = Literal["parameters", "gradients", "optimiser", "activations", "other"]


@dataclass(frozen=True)
class Peak:
    """Bytes of live storages when most are live; the kinds sum to ``total``.

    Attributes:
        total: all live bytes.
        phase: ``forward``, ``backward`` or ``optimiser`` (clipping, the optimiser's step, averaging).
        parameters: parameters and buffers of the network and the physics, frozen ones too.
        gradients: gradients of parameters, each from the moment it is complete.
        optimiser: states of the optimiser, and averaged weights. Adam has two moments for each trained number,
            and a step count of 4 bytes for each trained tensor; an average is a copy of everything.
        activations: tensors of the forward pass, and those that checkpointing recomputes in the backward pass.
        other: the batch, further tensors that the modules hold, and temporaries of the backward pass and the
            optimiser's step.
    """

    total: int
    phase: Phase
    parameters: int
    gradients: int
    optimiser: int
    activations: int
    other: int


class LiveBytes(TorchDispatchMode):
    """Counts the storages that operators read and return inside ``with LiveBytes():``, by kind.

    Do not nest it with another dispatch mode, such as FlopCounterMode: checkpointed networks are then counted wrong.
    """

    def __init__(self) -> None:
        super().__init__()
        self._phase: Phase = "forward"
        self._live: dict[int, tuple[Kind, int]] = {}  # id of a live untyped storage: its kind and bytes
        self._bytes: dict[Kind, int] = dict.fromkeys(get_args(Kind), 0)
        self.peak = self._now()

    def enter(self, phase: Phase) -> None:
        """Begin ``phase``."""
        self._phase = phase

    def tag(self, kind: Kind, tensors: Iterable[torch.Tensor]) -> None:
        """Count the storages of ``tensors`` as ``kind`` from now on."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if id(storage) not in self._live:
                weakref.finalize(storage, self._drop, id(storage))
            self._set(id(storage), kind, storage.nbytes())
        if sum(self._bytes.values()) > self.peak.total:
            self.peak = self._now()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is not torch.ops.aten.lift_fresh.default:  # torch.tensor(...): only its result stays
            self.tag("other", self._new(args, kwargs))
        result = func(*args, **(kwargs or {}))
        # Autograd computes gradients without grad mode; checkpointing turns it on to recompute activations.
        recomputing = torch._C._current_graph_task_id() != -1 and torch.is_grad_enabled()
        self.tag("activations" if self._phase == "forward" or recomputing else "other", self._new(result))
        return result

    def _new(self, *nested: Any) -> list[torch.Tensor]:
        tensors = [leaf for leaf in tree_leaves(nested) if isinstance(leaf, torch.Tensor)]
        return [tensor for tensor in tensors if id(tensor.untyped_storage()) not in self._live]

    def _set(self, key: int, kind: Kind, size: int) -> None:
        self._drop(key)
        self._live[key] = kind, size
        self._bytes[kind] += size

    def _drop(self, key: int) -> None:
        if key in self._live:
            kind, size = self._live.pop(key)
            self._bytes[kind] -= size

    def _now(self) -> Peak:
        return Peak(total=sum(self._bytes.values()), phase=self._phase, **self._bytes)


def training_step_bytes(
    build: Build,
    batch_shape: tuple[int, ...],
    config: TrainingConfig,
    *,
    dtype: torch.dtype = torch.float32,
    fake: bool = True,
) -> Peak:
    """Peak of live bytes in one step as the training loop makes it (`lorun.step`) on a CPU.

    ``config`` gives the loss, precision, clipping, optimiser and average; its batch and patch do not count, nor how it
    recomputes, which is the network's. An uncounted step makes the optimiser's states, then the next step is counted.
    x and the loss live until its end, the gradients through the optimiser's step. Garbage in reference
    cycles made within the step is not collected, so it counts.

    Args:
        build: makes the network and the physics.
        batch_shape: (batch, channels, height, width) of x.
        config: how the step is made.
        dtype: PyTorch's default dtype while the modules are built and run.
        fake: count on fake tensors; otherwise on real ones, which need the counted memory.

    Raises:
        LorunError: nothing is trainable; or, with ``fake``, the modules need values or were not made in
            ``build``.
    """
    with counted_steps(build, batch_shape, config, dtype=dtype, fake=fake) as (_, count):
        return count()


@contextmanager
def counted_steps(
    build: Build,
    batch_shape: tuple[int, ...],
    config: TrainingConfig,
    *,
    dtype: torch.dtype = torch.float32,
    fake: bool = True,
) -> Iterator[tuple[nn.Module, Callable[[], Peak]]]:
    """The network, and a function that makes a step and counts it as `training_step_bytes` does."""
    with _tensors(dtype, fake):
        network, physics = make_modules(build, fake=fake)
        step = _Step(network, physics, config, image_batch(batch_shape))
        step()
        yield network, step.count


def inference_bytes(
    build: Build, image_shape: tuple[int, ...], *, dtype: torch.dtype = torch.float32, fake: bool = True
) -> Peak:
    """Peak of live bytes while ``network(y, physics)`` reconstructs x from y = A(x), without gradients.

    y counts as ``other``; everything that the network makes, including the estimate, as ``activations``. The network is
    in evaluation mode, without PyTorch's fused transformer layers, and has been called once before.

    Args:
        build: makes the network and the physics.
        image_shape: (batch, channels, height, width) of x; a batch of 1 for the cost of one image.
        dtype: PyTorch's default dtype while the modules are built and run.
        fake: count on fake tensors; otherwise on real ones, which need the counted memory.

    Raises:
        LorunError: with ``fake``, the modules need values or were not made in ``build``.
    """
    with _tensors(dtype, fake), separate_operators(), torch.no_grad():
        network, physics = make_modules(build, fake=fake)
        network.eval()
        physics.eval()
        y = physics.A(image_batch(image_shape))
        network(y, physics)
        with _counter(network, physics, y) as live, _garbage_kept():
            network(y, physics)
        return live.peak


def cuda_training_peak(build: Build, batch_shape: tuple[int, ...], config: TrainingConfig) -> int | None:
    """Peak bytes allocated on the GPU in the step that `training_step_bytes` counts; None without CUDA.

    It is ``torch.cuda.max_memory_allocated`` minus what was allocated before ``build``. Unlike the counted bytes it
    includes the allocator's rounding to 512 bytes and the scratch space of kernels (cuDNN, cuBLAS). The precision
    ``auto`` is the GPU's.

    Args:
        build: makes the network and the physics, which are then moved to the GPU.
        batch_shape: (batch, channels, height, width) of x.
        config: how the step is made.

    Raises:
        LorunError: nothing is trainable.
    """
    if not torch.cuda.is_available():
        return None
    gc.collect()
    baseline = torch.cuda.memory_allocated()
    network, physics = make_modules(build, fake=False)
    step = _Step(network.to("cuda"), physics.to("cuda"), config, image_batch(batch_shape, "cuda"))
    step()
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() - baseline


@contextmanager
def _tensors(dtype: torch.dtype, fake: bool) -> Iterator[None]:
    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with fake_tensors() if fake else nullcontext():
            yield
    finally:
        torch.set_default_dtype(previous)


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Turn off the collection of reference cycles: when Python starts it depends on everything that ran before."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _counter(network: nn.Module, physics: "LinearPhysics", given: torch.Tensor) -> LiveBytes:
    """A counter of everything that exists before the step."""
    live = LiveBytes()
    for module in (network, physics):
        live.tag("parameters", chain(module.parameters(), module.buffers()))
    live.tag("other", [given])
    return live


class _Step:
    """A training step that can be repeated, on the device of x.

    Raises:
        LorunError: nothing is trainable.
    """

    def __init__(self, network: nn.Module, physics: Any, config: TrainingConfig, x: torch.Tensor) -> None:
        self.network, self.physics, self.config, self.x = network, physics, config, x
        self.system = System(network, physics)
        optimizer = make_optimizer(self.system, config, x.device)
        if optimizer is None:
            names = f"{type(network).__name__} and {type(physics).__name__}"
            raise LorunError(f"{names} have no trainable parameters: there is no training step to count")
        self.optimizer = optimizer
        self.average = make_average(self.system, config)

    def __call__(self, begin: Callable[[Phase], None] = lambda phase: None) -> None:
        training_step(self.system, self.physics, self.x, self.optimizer, self.config, self.average, begin)

    def count(self) -> Peak:
        """Make a step and count it."""
        live = _counter(self.network, self.physics, self.x)
        states = (value for state in self.optimizer.state.values() for value in state.values())
        live.tag("optimiser", states)
        if self.average is not None:
            live.tag("optimiser", chain(self.average.parameters(), self.average.buffers()))
        trained = [parameter for parameter in self.system.parameters() if parameter.requires_grad]
        hooks = [p.register_post_accumulate_grad_hook(lambda p: live.tag("gradients", [p.grad])) for p in trained]
        try:
            with live, _garbage_kept():
                self(live.enter)
        finally:
            for hook in hooks:
                hook.remove()
        return live.peak
