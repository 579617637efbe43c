"""The learning rate as a function of the step alone, so that a resumed run needs no scheduler state."""

import math

from lorun.config import TrainingConfig


def learning_rate(done: int, config: TrainingConfig) -> float:
    """Rate of the step after `done` steps: linear warm-up, then a cosine to the final rate."""
    if done < config.warmup_steps:
        return config.learning_rate * (done + 1) / config.warmup_steps
    progress = (done - config.warmup_steps) / max(1, config.steps - 1 - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * cosine
