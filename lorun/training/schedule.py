"""The learning rate as a function of the step alone, so that a resumed run needs no scheduler state."""

import math

from lorun.config import TrainingConfig


def learning_rate(done: int, steps: int, config: TrainingConfig, adapters: bool = False) -> float:
    """Rate of the step after `done` of `steps` steps: linear warm-up, then a cosine to the final rate.

    `adapters`: the rate of adapters, which have their own warm-up and a multiple of the common rate.
    """
    warmup, multiple = config.warmup_steps, 1.0
    if adapters:
        warmup = warmup if config.adapters.warmup_steps is None else config.adapters.warmup_steps
        multiple = config.adapters.rate
    if done < warmup:
        return multiple * config.learning_rate * (done + 1) / warmup
    progress = (done - warmup) / max(1, steps - 1 - warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return multiple * (config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * cosine)
