"""Time of a reconstruction on this machine."""

import platform
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import torch
from torch import nn

from lorun.accounting.building import image_batch
from lorun.errors import LorunError

if TYPE_CHECKING:
    from deepinv.physics import LinearPhysics


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one reconstruction, and the hardware.

    Attributes:
        median_ms: median over the repeats.
        min_ms: fastest repeat.
        max_ms: slowest repeat.
        repeats: how many were timed.
        device: name of the GPU or of the processor.
        threads: CPU threads of PyTorch within an operator.
    """

    median_ms: float
    min_ms: float
    max_ms: float
    repeats: int
    device: str
    threads: int


def reconstruction_latency(
    network: nn.Module,
    physics: "LinearPhysics",
    image_shape: tuple[int, ...],
    *,
    repeats: int = 5,
    device: torch.device | str,
) -> Latency:
    """Time ``network(y, physics)``, y = A(x), without gradients, after one untimed call.

    Making y is not timed. A GPU is synchronised before each reading of the clock. Both modules are moved to ``device``
    and left in evaluation mode.

    Args:
        network: called as ``network(y, physics)``.
        physics: called as ``physics.A(x)``.
        image_shape: (batch, channels, height, width) of x; a batch of 1 for the time of one image.
        repeats: timed calls, at least 1.
        device: where to run, such as ``cpu`` or ``cuda``.

    Raises:
        LorunError: fewer than one repeat, or a GPU is requested and PyTorch sees none.
    """
    device = torch.device(device)
    if repeats < 1:
        raise LorunError(f"repeats is {repeats}: at least 1 is needed")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise LorunError(f"device {str(device)!r}: PyTorch sees no CUDA GPU here. Choices: cpu")
    network.to(device).eval()
    physics.to(device).eval()
    with torch.no_grad():
        y = physics.A(image_batch(image_shape, device))
        _call_ms(network, physics, y)
        times = [_call_ms(network, physics, y) for _ in range(repeats)]
    return Latency(
        median_ms=median(times),
        min_ms=min(times),
        max_ms=max(times),
        repeats=repeats,
        device=hardware_name(device),
        threads=torch.get_num_threads(),
    )


def _call_ms(network: nn.Module, physics: "LinearPhysics", y: torch.Tensor) -> float:
    wait_for(y.device)
    start = perf_counter()
    network(y, physics)
    wait_for(y.device)
    return 1e3 * (perf_counter() - start)


def wait_for(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def hardware_name(device: torch.device) -> str:
    """Name of the GPU or of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")  # platform.processor() is empty on most Linux systems
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
