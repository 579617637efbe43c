"""Methods as typed specifications, and the experiments that they make with an operator, data and a seed."""

from lorun.methods.base import Method, TrainingData
from lorun.methods.baselines import Plugin, Released, Trained, Untrained
from lorun.methods.experiment import Experiment, Spec
from lorun.methods.strategies import PRESETS, PRETRAIN, PRETRAININGS, STRATEGIES, Preset, Strategy

__all__ = [
    "PRESETS",
    "PRETRAIN",
    "PRETRAININGS",
    "STRATEGIES",
    "Experiment",
    "Method",
    "Plugin",
    "Preset",
    "Released",
    "Spec",
    "Strategy",
    "Trained",
    "TrainingData",
    "Untrained",
]
