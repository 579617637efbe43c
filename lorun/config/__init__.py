"""Typed configuration: what a profile may say, with units, defaults and checks.

A *profile* (`config/quick.yaml`, ...) lists tasks; a task lists *settings* (variants of its physics), *methods*
(sharing strategies and baselines) and seeds. `Profile.experiments` resolves them into `Experiment`s, one per
(task, setting, method, seed), which is all that training, evaluation and accounting ever see.
"""

from typing import TYPE_CHECKING, Any

from lorun.config.evaluation import AccountingConfig, EvaluationConfig
from lorun.config.methods import (
    ADAPTED,
    DEEP_PLUG_AND_PLAY,
    FROZEN,
    NAMED,
    PRETRAIN,
    PRETRAINED,
    STRATEGIES,
    TRANSFER,
    Recompute,
    Strategy,
)
from lorun.config.network import LoraConfig, SplittingConfig, UnfoldingConfig
from lorun.config.section import explain
from lorun.config.training import DataConfig, TrainingConfig

if TYPE_CHECKING:
    from lorun.config.experiment import Experiment
    from lorun.config.profile import Profile, TaskConfig, load_profile, profile_schema

__all__ = [
    "ADAPTED",
    "DEEP_PLUG_AND_PLAY",
    "FROZEN",
    "NAMED",
    "PRETRAIN",
    "PRETRAINED",
    "STRATEGIES",
    "TRANSFER",
    "AccountingConfig",
    "DataConfig",
    "EvaluationConfig",
    "Experiment",
    "LoraConfig",
    "Profile",
    "Recompute",
    "SplittingConfig",
    "Strategy",
    "TaskConfig",
    "TrainingConfig",
    "UnfoldingConfig",
    "explain",
    "load_profile",
    "profile_schema",
]


def __getattr__(name: str) -> Any:
    """Experiments and profiles, which use the sections of operators and denoisers, are imported when asked for."""
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("lorun.config." + ("experiment" if name == "Experiment" else "profile")), name)
