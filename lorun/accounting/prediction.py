"""Predict the bytes of a training step of any experiment, with and without recomputed stages."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from lorun.accounting.building import step_build
from lorun.accounting.live_bytes import Peak, counted_steps
from lorun.config import Recompute, TrainingConfig
from lorun.errors import LorunError
from lorun.methods import PRESETS, Experiment, Strategy
from lorun.system import recompute_choices, set_recompute


def predict_steps(
    experiment: Experiment,
    batch: int,
    patch: tuple[int, int],
    *,
    training: TrainingConfig | None = None,
    fake: bool = True,
) -> dict[Recompute, Peak]:
    """Peak of a training step on `batch` patches, (height, width), for each choice of recomputation, `none` first.

    `training` replaces the experiment's. Choices that the network does not have are left out. Memory outside the
    step (weights kept by the policy best_validation, a validation image) does not count. On a GPU the precision `auto`
    counts as on a CPU.

    Raises:
        LorunError: nothing is trainable.
    """
    shape = (batch, experiment.channels, *patch)
    how = training or experiment.training
    assert how is not None
    with counted_steps(step_build(experiment, patch), shape, how, fake=fake) as (network, count):
        peaks: dict[Recompute, Peak] = {}
        for recompute in recompute_choices(network):
            set_recompute(network, recompute)
            peaks[recompute] = count()
    return peaks


def first_that_fits(predicted: Mapping[Recompute, Peak], budget: float) -> Recompute | None:
    """The least recomputation with which the step fits `budget` bytes; None if no choice fits."""
    return next((recompute for recompute, peak in predicted.items() if peak.total <= budget), None)


def largest_batch(peak: Callable[[int], int], budget: float) -> int:
    """The largest batch whose step peaks at no more than `budget` bytes; 0 if not even one image fits.

    `peak` maps a batch to bytes and must not decrease. It is slow, so its nearly linear growth is used to call it
    rarely.
    """
    fits, too_large = (1, peak(1)), None
    if fits[1] > budget:
        return 0
    step = 1
    while too_large is None or too_large[0] - fits[0] > 1:
        batch = fits[0] + step if too_large is None else _between(fits, too_large, budget)
        found = batch, peak(batch)
        if found[1] > budget:
            too_large = found
        else:
            growth = (found[1] - fits[1]) / (found[0] - fits[0])
            step = max(1, int((budget - found[1]) / growth) + 1) if growth else 2 * step
            fits = found
    return fits[0]


def _between(fits: tuple[int, int], too_large: tuple[int, int], budget: float) -> int:
    """The batch where a line through two batches and their peaks meets the budget."""
    share = (budget - fits[1]) / (too_large[1] - fits[1])
    return min(max(fits[0] + int(share * (too_large[0] - fits[0])), fits[0] + 1), too_large[0] - 1)


def largest_batches(experiment: Experiment, patch: int, budget: float) -> dict[Recompute, int]:
    """The largest batch of patches whose step fits `budget` bytes, for each choice of recomputation."""
    predict = cache(partial(predict_steps, experiment, patch=(patch, patch)))

    def largest(recompute: Recompute) -> int:
        return largest_batch(lambda batch: predict(batch)[recompute].total, budget)

    return {recompute: largest(recompute) for recompute in predict(1)}


def resized(
    experiment: Experiment,
    *,
    batch: int | None = None,
    patch: int | None = None,
    image: int | None = None,
    stages: int | None = None,
    training: Mapping[str, Any] | None = None,
) -> Experiment:
    """The experiment with other sizes to account for, and other training settings; None keeps a value.

    Raises:
        LorunError: `stages` for a method without a choice of stages; `training` for an untrained method.
    """
    sizes = {"batch": batch, "patch": patch, "image": image}
    accounting = {name: size for name, size in sizes.items() if size is not None}
    spec: dict[str, Any] = {}
    if stages is not None:
        if not isinstance(experiment.spec, Strategy) or PRESETS[experiment.method].one_stage:
            choices = ", ".join(name for name, preset in PRESETS.items() if not preset.one_stage)
            raise LorunError(f"{experiment.method!r} has no stages to choose; {choices} have")
        spec["stages"] = stages
    if training:
        if experiment.training is None:
            raise LorunError(f"{experiment.method!r} is not trained: there is no step to change")
        spec["training"] = experiment.training.model_copy(update=dict(training))
    return experiment.model_copy(
        update={
            "accounting": experiment.accounting.model_copy(update=accounting),
            "spec": experiment.spec.model_copy(update=spec),
        }
    )
