"""Whether a training moved what it trains: a stage whose adapter ends as it began is dead, whatever it scores."""

import hashlib

from torch import nn


def fingerprints(system: nn.Module) -> dict[str, str]:
    """A hash of the values of every parameter that is trained, by name; 0 and -0 count as the same."""
    return {
        name: hashlib.sha256((parameter.detach().cpu() + 0.0).contiguous().numpy().tobytes()).hexdigest()
        for name, parameter in system.named_parameters()
        if parameter.requires_grad
    }


def unmoved(system: nn.Module, before: dict[str, str]) -> list[str]:
    """Names of the trained parameters, in order, whose every value is that of the fingerprints `before`."""
    after = fingerprints(system)
    return [name for name, fingerprint in before.items() if after.get(name) == fingerprint]
