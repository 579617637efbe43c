"""Weights that other groups released, turned into ours: read as data only, renamed, and checked key by key."""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from lorun import plugins
from lorun.errors import LorunError
from lorun.system import System
from lorun.training.weights import load_checkpoint, load_weights

_PREFIX = "module."  # of torch.nn.DataParallel
_ADVICE = "use a file of tensors from its authors"
_WRAPPERS = ("state_dict", "model_state_dict", "model", "params")


def read_released(path: Path) -> dict[str, Tensor]:
    """The state dict in a .safetensors file, or in one that `torch.save` wrote (.pkl, .pt, .pth), never running code.

    Raises:
        LorunError: the file is missing, damaged, refused because it holds more than data, or not a state dict.
    """
    if not path.is_file():
        raise LorunError(f"{path}: no such weights file")
    state = load_weights(path) if path.suffix == ".safetensors" else load_checkpoint(path, _ADVICE)
    for wrapper in _WRAPPERS:
        if isinstance(state.get(wrapper), Mapping):
            state = dict(state[wrapper])
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise LorunError(f"{path}: not a state dict: its key `{key}` holds no tensor, but {type(value).__name__}")
    if not state:
        raise LorunError(f"{path}: not a state dict: it is empty")
    return state


def load_released(system: System, method: str, path: Path) -> None:
    """Load released weights of the baseline `method` into `system`; its card says what the authors call what we have.

    Raises:
        LorunError: as `read_released`; a key that has no place, has another shape, holds values that are not finite,
            stands twice, or is missing; the first one is named.
    """
    own = system.state_dict()
    found: dict[str, Tensor] = {}
    for key, tensor in read_released(path).items():
        name = our_name(method, key)
        if name not in own:
            raise LorunError(f"{path}: key `{key}` has no place in {method}: weights of another network?")
        if tensor.shape != own[name].shape:
            raise LorunError(
                f"{path}: key `{key}` has shape {tuple(tensor.shape)}, {method} has {tuple(own[name].shape)} there: "
                "weights of another ratio or network?"
            )
        if not tensor.isfinite().all():
            raise LorunError(f"{path}: key `{key}` has values that are not finite")
        if name in found:
            raise LorunError(f"{path}: key `{key}` is `{name}` of {method}, which another key is too")
        found[name] = tensor
    for name, _ in system.named_parameters():
        if name not in found:
            raise LorunError(f"{path}: has nothing for `{name}` of {method}: weights of another network?")
    system.load_state_dict({**own, **found})


def our_name(method: str, key: str) -> str:
    """What a `System` of the baseline calls what its authors call `key`; `key` itself where the card does not say."""
    key = key.removeprefix(_PREFIX)
    for pattern, ours in plugins.card(method).released_names.items():
        match = re.fullmatch(pattern, key)
        if match is not None:
            return match.expand(ours)
    return key
