"""Training: one loop for every method, with checkpoints that make a resumed run equal an uninterrupted one."""

from lorun.training.loop import Progress, train
from lorun.training.outcome import Outcome, read_outcome

__all__ = ["Outcome", "Progress", "read_outcome", "train"]
