"""Profiles: `config/NAME.yaml`, read, checked and resolved into experiments.

A *profile* lists tasks; a task lists *settings* (variants of its operator), *methods* (sharing strategies and
baselines) and its budget. `Profile.experiments` resolves them into one `Experiment` per (task, setting, method, seed).
"""

from lorun.profiles.profile import Profile
from lorun.profiles.reading import load_profile, profile_schema
from lorun.profiles.task import DataConfig, TaskConfig

__all__ = ["DataConfig", "Profile", "TaskConfig", "load_profile", "profile_schema"]
