"""Parameter counts of a system, split by role."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lorun.system import System


@dataclass(frozen=True)
class Parameters:
    """Counts of numbers (not bytes).

    Attributes:
        operator: the sampling matrix and the matrix of the initial reconstruction, learned or fixed; buffers count.
        base: denoisers without adapters; all parameters of a baseline without `parameter_kinds`.
        adapters: LoRA matrices of all stages.
        step_sizes: rho_k.
        other: everything else, such as noise levels.
        trainable: all that phase 2 (or the only phase) trains.
    """

    operator: int
    base: int
    adapters: int
    step_sizes: int
    other: int
    trainable: int

    @property
    def network(self) -> int:
        """Without the operator, as papers with a fixed Phi report."""
        return self.base + self.adapters + self.step_sizes + self.other

    @property
    def total(self) -> int:
        return self.network + self.operator


def count_parameters(system: System) -> Parameters:
    """Count the numbers of a system; a network's method `parameter_kinds` splits them, without it all are `base`."""
    network: Any = system.network
    kinds = {"base": list(network.parameters()), "adapters": [], "step_sizes": [], "other": []}
    if hasattr(network, "parameter_kinds"):
        kinds = network.parameter_kinds()
    operator: list[Tensor] = [*system.physics.parameters()]
    operator += [buffer for name, buffer in system.physics.named_buffers() if not name.startswith("_")]
    return Parameters(
        operator=_numbers(operator),
        trainable=_numbers(p for p in system.parameters() if p.requires_grad),
        **{kind: _numbers(parameters) for kind, parameters in kinds.items()},
    )


def _numbers(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)
