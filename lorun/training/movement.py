"""Which parameters a training changed. A stage whose adapter did not change is dead, whatever its score."""

import hashlib

from torch import nn


def fingerprints(system: nn.Module) -> dict[str, str]:
    """Hash of the values of each trainable parameter, by name; 0 and -0 count as equal."""
    return {
        name: hashlib.sha256((parameter.detach().cpu() + 0.0).contiguous().numpy().tobytes()).hexdigest()
        for name, parameter in system.named_parameters()
        if parameter.requires_grad
    }


def unmoved(system: nn.Module, before: dict[str, str]) -> list[str]:
    """Names of the trained parameters, in order, whose values did not change since the fingerprints `before`."""
    after = fingerprints(system)
    return [name for name, fingerprint in before.items() if after.get(name) == fingerprint]
