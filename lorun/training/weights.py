"""Weights (safetensors) and checkpoints (torch) on disk; reading never executes code from a file."""

import io
import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from lorun.config.reading import load_json
from lorun.errors import LorunError
from lorun.files import write_atomically


def save_weights(path: Path, state: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write a state dict and a few strings `about` it, atomically. A tensor with two names is written under both."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        if place in seen:  # safetensors refuses tensors that share memory
            tensors[name] = tensor.clone()
        seen.add(place)
    # One entry: safetensors writes several entries in no fixed order.
    data = save(tensors, metadata={"about": json.dumps(dict(about), sort_keys=True)})
    write_atomically(path, lambda part: part.write_bytes(data))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read what `save_weights` wrote. Raises LorunError when the file is missing or damaged."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise LorunError(f"{path}: no such weights file") from None
    except (OSError, SafetensorError) as error:
        raise LorunError(f"{path}: not a readable safetensors file ({error}); train again or fetch it anew") from error


def read_about(path: Path) -> dict[str, str]:
    """The strings that `save_weights` wrote. Raises LorunError when the file is missing, damaged, or has none."""
    try:
        with safe_open(path, framework="pt") as weights:
            return dict(load_json((weights.metadata() or {})["about"]))
    except FileNotFoundError:
        raise LorunError(f"{path}: no such weights file") from None
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise LorunError(f"{path}: not a weights file that a training of this suite wrote ({error!r})") from error


def save_checkpoint(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Write tensors, numbers, strings, lists and dicts, atomically."""
    buffer = io.BytesIO()  # torch's own writing to a file hides why it failed
    torch.save(dict(checkpoint), buffer)
    write_atomically(path, lambda part: part.write_bytes(buffer.getbuffer()))


START_AGAIN = "remove it to start the run again"


def load_checkpoint(path: Path, advice: str = START_AGAIN) -> dict[str, Any]:
    """Read a dictionary that `torch.save` wrote, as `save_checkpoint` does; never runs code from the file.

    Raises:
        LorunError: the file is damaged, or holds more than data; the message ends with `advice`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about pickles that torch did not write
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise LorunError(
            f"{path}: refused: it holds objects that are not data (loading them could execute code), or is damaged; "
            f"{advice}"
        ) from error
    except OSError as error:
        raise LorunError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # damaged files raise almost anything, with the advice to load them unsafely
        raise LorunError(f"{path}: not a checkpoint, or damaged; {advice}") from error
    if not isinstance(loaded, dict):
        raise LorunError(f"{path}: not a dictionary, so no checkpoint; {advice}")
    return loaded


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
    """Load `state` into `module`; the names must be the same.

    Raises:
        LorunError: a tensor is missing, unexpected, or has another shape. The message names the first one.
    """
    own = module.state_dict()
    for name in sorted(own.keys() | state.keys()):
        if name not in state or name not in own:
            lacking = "the file lacks it" if name not in state else "the network has no such tensor"
            raise LorunError(f"{source}: does not fit the network at `{name}`: {lacking}")
        if state[name].shape != own[name].shape:
            raise LorunError(
                f"{source}: does not fit the network at `{name}`: shape {tuple(state[name].shape)} "
                f"instead of {tuple(own[name].shape)}"
            )
    module.load_state_dict(state)
