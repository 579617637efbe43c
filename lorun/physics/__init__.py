"""Measurement models: linear operators A with their adjoint, subclasses of `deepinv.physics.LinearPhysics`.

Each module defines one operator and its section of a profile; `OPERATORS` finds them by the name of the module.
"""

from typing import Annotated

from lorun.config.registry import Registry
from lorun.physics._matrices import read_matrix
from lorun.physics.base import Example, Operator, OperatorConfig

__all__ = ["OPERATORS", "Example", "Operator", "OperatorConfig", "PhysicsConfig", "build_physics", "read_matrix"]

OPERATORS = Registry("operator", "lorun.physics", OperatorConfig)  # type: ignore[type-abstract]

PhysicsConfig = Annotated[OperatorConfig, OPERATORS]
"""The section of any operator, as the type of a field."""


def build_physics(config: OperatorConfig) -> Operator:
    """The operator of a section: another name of `config.build()`."""
    return config.build()
