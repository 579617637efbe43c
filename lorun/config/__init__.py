"""Typed configuration: what a profile may say, with units, defaults and checks.

A *profile* (`config/quick.yaml`, ...) lists tasks; a task lists *settings* (variants of its physics), *methods*
(sharing strategies and baselines) and seeds. `Profile.experiments` resolves them into `Experiment`s, one per
(task, setting, method, seed), which is all that training, evaluation and accounting ever see.
"""

from lorun.config.evaluation import AccountingConfig, EvaluationConfig
from lorun.config.experiment import Experiment
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
from lorun.config.network import (
    CNNConfig,
    DenoiserConfig,
    LoraConfig,
    SpectralTransformerConfig,
    SplittingConfig,
    UNetConfig,
    UnfoldingConfig,
)
from lorun.config.physics import (
    PHYSICS,
    BlockCSConfig,
    BlurDownsampleConfig,
    CASSIConfig,
    DenoisingConfig,
    PhysicsConfig,
)
from lorun.config.profile import Profile, TaskConfig, load_profile, profile_schema
from lorun.config.section import explain
from lorun.config.training import DataConfig, TrainingConfig

__all__ = [
    "ADAPTED",
    "DEEP_PLUG_AND_PLAY",
    "FROZEN",
    "NAMED",
    "PHYSICS",
    "PRETRAIN",
    "PRETRAINED",
    "STRATEGIES",
    "TRANSFER",
    "AccountingConfig",
    "BlockCSConfig",
    "BlurDownsampleConfig",
    "CASSIConfig",
    "CNNConfig",
    "DataConfig",
    "DenoiserConfig",
    "DenoisingConfig",
    "EvaluationConfig",
    "Experiment",
    "LoraConfig",
    "PhysicsConfig",
    "Profile",
    "Recompute",
    "SpectralTransformerConfig",
    "SplittingConfig",
    "Strategy",
    "TaskConfig",
    "TrainingConfig",
    "UNetConfig",
    "UnfoldingConfig",
    "explain",
    "load_profile",
    "profile_schema",
]
