"""Training: one loop for every method. A run that is resumed from a checkpoint equals an uninterrupted one."""

from lorun.training.loop import Progress, train
from lorun.training.outcome import Outcome, read_outcome

__all__ = ["Outcome", "Progress", "read_outcome", "train"]
