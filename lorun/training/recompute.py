"""Which activations a training keeps for its backward pass: all of them, or those of one stage at a time."""

import sys

import torch

from lorun.config import Experiment, Recompute
from lorun.errors import LorunError
from lorun.step import at_precision

_SHARE = 0.9  # of a GPU's free memory: the rest is for what is not counted, rounding and the scratch space of kernels


def choose_recompute(experiment: Experiment, device: torch.device, processes: int = 1) -> Recompute:
    """What `training.recompute` comes to on `device`; `auto` predicts the step's peak, and says so on stderr.

    Of several processes each has its share of the batch, and of memory what `memory_budget` says, or its own GPU.

    Raises:
        LorunError: `auto` without `memory_budget` on a CPU, whose free memory is not the training's own; or no way to
            make the step fits the budget.
    """
    training = experiment.training
    if training.recompute != "auto":
        return training.recompute
    from lorun.accounting.prediction import first_that_fits, predict_steps  # these count what this package does

    budget = _budget(experiment, device)
    as_here = experiment.model_copy(update={"training": at_precision(training, device)})
    batch = training.batch // processes
    predicted = predict_steps(as_here, batch, training.patch)
    peaks = ", ".join(f"{peak.total / 1e6:.1f} MB with {recompute}" for recompute, peak in predicted.items())
    chosen = first_that_fits(predicted, budget)
    if chosen is None:
        raise LorunError(
            f"{experiment.name}: a step on {batch} patches of {training.patch} pixels is predicted to take "
            f"{peaks}, the budget is {budget / 1e6:.1f} MB: lower `batch` or `patch`, or raise `memory_budget`"
        )
    line = f"{experiment.name}: recompute is {chosen}: predicted {peaks}; the budget is {budget / 1e6:.1f} MB"
    print(line, file=sys.stderr, flush=True)
    return chosen


def _budget(experiment: Experiment, device: torch.device) -> float:
    """Bytes."""
    said = experiment.training.memory_budget
    if said is not None:
        return 1e6 * said
    if device.type != "cuda":
        raise LorunError(
            f"{experiment.name}: `recompute: auto` needs a `memory_budget` (MB) on a {device.type.upper()}"
        )
    free, _ = torch.cuda.mem_get_info(device)
    return _SHARE * free
