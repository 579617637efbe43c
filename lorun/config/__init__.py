"""The sections of a profile that need no operator and no network: units, defaults and checks."""

from typing import Any

from lorun.config.evaluation import AccountingConfig, EvaluationConfig
from lorun.config.network import AdapterConfig, UnfoldingConfig
from lorun.config.section import Section, explain
from lorun.config.training import Recompute, TrainingConfig
from lorun.renamed import moved

__all__ = [
    "AccountingConfig",
    "AdapterConfig",
    "EvaluationConfig",
    "Recompute",
    "Section",
    "TrainingConfig",
    "UnfoldingConfig",
    "explain",
]


def __getattr__(name: str) -> Any:
    return moved(__name__, name)
