"""Which activations a training keeps for the backward pass: all, or those of one stage or half a stage at a time."""

import sys

import torch

from lorun.config import Recompute
from lorun.errors import LorunError
from lorun.methods import Experiment
from lorun.step import at_precision

_SHARE = 0.9  # of a GPU's free memory; the rest is for rounding and kernel workspaces, which are not counted


def choose_recompute(experiment: Experiment, device: torch.device, processes: int = 1) -> Recompute:
    """Resolve `training.recompute` on `device`; `auto` predicts the peak of a step and reports it on stderr.

    Each of several processes has its share of the batch, and its own GPU or `memory_budget`.

    Raises:
        LorunError: `auto` without `memory_budget` on a CPU, or no choice fits the budget.
    """
    training = experiment.training
    assert training is not None
    if training.recompute != "auto":
        return training.recompute
    # Imported here: a run records the code that it loads, and only `auto` depends on the accounting.
    from lorun.accounting.prediction import first_that_fits, predict_steps

    budget = _budget(experiment, training.memory_budget, device)
    batch = training.batch // processes
    predicted = predict_steps(experiment, batch, training.patch_size, training=at_precision(training, device))
    peaks = ", ".join(f"{peak.total / 1e6:.1f} MB with {recompute}" for recompute, peak in predicted.items())
    chosen, (height, width) = first_that_fits(predicted, budget), training.patch_size
    if chosen is None:
        raise LorunError(
            f"{experiment.name}: a step on {batch} patches of {height} x {width} pixels is predicted to take "
            f"{peaks}, the budget is {budget / 1e6:.1f} MB: lower `batch` or `patch`, or raise `memory_budget`"
        )
    line = f"{experiment.name}: recompute is {chosen}: predicted {peaks}; the budget is {budget / 1e6:.1f} MB"
    print(line, file=sys.stderr, flush=True)
    return chosen


def _budget(experiment: Experiment, megabytes: float | None, device: torch.device) -> float:
    """Memory budget of a step, in bytes."""
    if megabytes is not None:
        return 1e6 * megabytes
    if device.type != "cuda":
        raise LorunError(
            f"{experiment.name}: `recompute: auto` needs a `memory_budget` (MB) on a {device.type.upper()}"
        )
    free, _ = torch.cuda.mem_get_info(device)
    return _SHARE * free
