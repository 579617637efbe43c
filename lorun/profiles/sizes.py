"""Whether operators, networks and batches of a profile can fit into the memory of this machine."""

import math
from collections.abc import Iterator
from typing import Any

import psutil
import torch

from lorun.denoisers import DenoiserConfig
from lorun.errors import LorunError
from lorun.profiles.profile import Profile
from lorun.profiles.task import TaskConfig


def check_sizes(profile: Profile) -> None:
    """Raise LorunError, with the predicted bytes, where a part of a task cannot fit into the memory of this machine.

    The prediction is a lower bound: one copy of each part alone, without activations.
    """
    memory = psutil.virtual_memory().total
    for name, task in profile.tasks.items():
        for what, needed in _parts(task):
            if needed > memory:
                raise LorunError(
                    f"task `{name}`: {what} needs at least {_shown(needed)}, this machine has {_shown(memory)}"
                )


def _parts(task: TaskConfig) -> Iterator[tuple[str, float]]:
    for setting in task.settings:
        yield f"setting `{setting}`: the operator", _operator_bytes(task.physics_of(setting))
    denoisers = {"denoiser": task.denoiser} if task.strategies else {}
    denoisers |= {f"variants.{name}": one.denoiser for name, one in task.variants.items() if one.denoiser is not None}
    for name, denoiser in denoisers.items():
        yield f"`{name}`: one denoiser", _denoiser_bytes(denoiser, task.data.channels)
    if task.training is not None:
        height, width = task.training.patch_size
        yield "`training`: a batch of patches", 4 * task.training.batch * task.data.channels * height * width
    counted = task.accounting
    yield "`accounting`: a batch of patches", 4 * counted.batch * task.data.channels * counted.patch**2
    yield "`accounting`: an image", 4 * task.data.channels * counted.image**2


def _operator_bytes(physics: Any) -> float:
    """Of the arrays in float64 that an operator is made with."""
    if physics.name == "block_cs":
        pixels = physics.block**2
        matrices = 3 * math.ceil(physics.ratio * pixels / 100) * pixels  # Phi, what it is made from, its initialiser
        return 8 * (matrices + ((pixels**2 + 2 * physics.initial_blocks) if physics.fitted else 0))
    if physics.name == "cassi":
        return float(16 * physics.mask_side**2)
    return 0


def _denoiser_bytes(denoiser: DenoiserConfig, channels: int) -> float:
    """Of the weights in float32."""
    for name in ("blocks", "depth"):
        count = getattr(denoiser, name, 0)
        if count > 3:  # each further one has the same weights: no need to build them
            few, more = (denoiser.model_copy(update={name: number}) for number in (2, 3))
            first = _denoiser_bytes(few, channels)
            return first + (count - 2) * (_denoiser_bytes(more, channels) - first)
    try:
        with torch.device("meta"):
            return 4 * sum(weight.numel() for weight in denoiser.build(channels).parameters())
    except LorunError:  # it does not fit its weights, or needs another input: found when it is made
        return 0
    except RuntimeError as error:
        if "overflow" not in str(error):
            raise
        return 2.0**63


def _shown(count: float) -> str:
    count = min(count, 1e30)
    return f"{count / 1e9:.3g} GB" if count < 1e15 else f"{count:.1e} bytes"
