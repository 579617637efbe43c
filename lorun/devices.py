"""Choose the device that a computation runs on."""

import torch

from lorun.errors import LorunError, UnknownName

CHOICES = ("auto", "cpu", "cuda")


def scoring_device(name: str = "auto") -> torch.device:
    """As `pick_device`, for scores: on one thread, as the workflow computes them, so that they are equal to the last
    digit."""
    torch.set_num_threads(1)
    return pick_device(name)


def pick_device(name: str = "auto") -> torch.device:
    """The device of a name; "auto" is the GPU if there is one, else the CPU.

    Raises:
        UnknownName: not one of CHOICES.
        LorunError: "cuda" without a usable GPU.
    """
    if name not in CHOICES:
        raise UnknownName("device", name, CHOICES)
    if name == "cuda" and not torch.cuda.is_available():
        raise LorunError("device 'cuda': no usable GPU here; choose 'auto' or 'cpu'")
    found = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(found if name == "auto" else name)
