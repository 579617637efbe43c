"""Weights that other groups released: read as data only, renamed, and checked key by key."""

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
    """Read the state dict in a .safetensors file, or in one that `torch.save` wrote (.pkl, .pt, .pth). Never runs code.

    Raises:
        LorunError: the file is missing, damaged, holds more than data, or is not a state dict.
    """
    if not path.is_file():
        raise LorunError(f"{path}: no such weights file")
    state = load_weights(path) if path.suffix == ".safetensors" else load_checkpoint(path, _ADVICE)
    for wrapper in _WRAPPERS:
        if isinstance(state.get(wrapper), Mapping):
            state = dict(state[wrapper])
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise LorunError(f"{path}: not a state dict: its key `{key}` holds {type(value).__name__}, not a tensor")
    if not state:
        raise LorunError(f"{path}: not a state dict: it is empty")
    return state


def load_released(system: System, method: str, path: Path) -> None:
    """Load released weights of the baseline `method` into `system`; its card maps the authors' names to ours.

    Raises:
        LorunError: as `read_released`; a key that is unknown, has another shape, holds values that are not finite,
            occurs twice, or is missing. The message names the first one.
    """
    own = system.state_dict()
    names = plugins.card(method).released_names
    found: dict[str, Tensor] = {}
    for key, tensor in read_released(path).items():
        name = rename(names, key)
        if name not in own:
            raise LorunError(f"{path}: key `{key}` has no place in {method}: weights of another network?")
        if tensor.shape != own[name].shape:
            raise LorunError(
                f"{path}: key `{key}` has shape {tuple(tensor.shape)}, {method} expects {tuple(own[name].shape)}; "
                "are these weights of another ratio or network?"
            )
        if not tensor.isfinite().all():
            raise LorunError(f"{path}: key `{key}` has values that are not finite")
        if name in found:
            raise LorunError(f"{path}: key `{key}` is the second key for `{name}` of {method}")
        found[name] = tensor
    for name, _ in system.named_parameters():
        if name not in found:
            raise LorunError(f"{path}: has nothing for `{name}` of {method}: weights of another network?")
    system.load_state_dict({**own, **found})


def rename(names: Mapping[str, str], key: str) -> str:
    """Our name of the authors' `key`, by the `released_names` of a card; `key` itself where they have no other."""
    key = key.removeprefix(_PREFIX)
    for pattern, ours in names.items():
        match = re.fullmatch(pattern, key)
        if match is not None:
            return match.expand(ours)
    return key
