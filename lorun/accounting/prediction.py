"""The bytes of a training step before it is made: for any experiment, with and without recomputed stages."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

from lorun.accounting.building import Build
from lorun.accounting.live_bytes import Peak, counted_steps
from lorun.config import Recompute, TrainingConfig
from lorun.errors import LorunError
from lorun.methods import PRESETS, Experiment, Strategy
from lorun.system import build_system, set_recompute, training_physics


def step_build(experiment: Experiment, patch: int, recompute: Recompute = "none") -> Build:
    """The network and the physics as a step on patches of `patch` pixels has them."""

    def build() -> tuple[Any, Any]:
        system = build_system(experiment)
        set_recompute(system.network, recompute)
        return system.network, training_physics(system, patch)

    return build


def inference_build(experiment: Experiment) -> Build:
    """The network and the physics as a reconstruction of an image of the accounting's size has them.

    Building raises LorunError where images of that size are cropped before they are measured.
    """

    def build() -> tuple[Any, Any]:
        system = build_system(experiment)
        side = experiment.accounting.image
        scored = system.physics.scored_size(side, side)
        if scored != (side, side):
            raise LorunError(
                f"images of {side} pixels are cropped to {scored[0]} when they are scored: change `accounting.image`"
            )
        return system.network, system.physics.at(side, side)

    return build


def predict_steps(
    experiment: Experiment, batch: int, patch: int, *, training: TrainingConfig | None = None, fake: bool = True
) -> dict[Recompute, Peak]:
    """Peak of a training step on `batch` patches of `patch` pixels, by what is recomputed, least first.

    `training` replaces that of the experiment. `stage` is there where the network has stages to recompute.
    What holds memory beside a step (weights kept by the
    policy best_validation, a validation image) does not count. On a GPU the precision `auto` counts as on a CPU.

    Raises:
        LorunError: nothing is trainable.
    """
    shape = (batch, experiment.channels, patch, patch)
    how = training or experiment.training
    assert how is not None
    with counted_steps(step_build(experiment, patch), shape, how, fake=fake) as (network, count):
        peaks: dict[Recompute, Peak] = {"none": count()}
        if set_recompute(network, "stage") == "stage":
            peaks["stage"] = count()
    return peaks


def first_that_fits(predicted: Mapping[Recompute, Peak], budget: float) -> Recompute | None:
    """What to recompute, as little as possible, so that the step fits `budget` bytes; None where nothing does."""
    return next((recompute for recompute, peak in predicted.items() if peak.total <= budget), None)


def largest_batch(peak: Callable[[int], int], budget: float) -> int:
    """The largest batch whose step peaks at no more than `budget` bytes; 0 where not even one image fits.

    `peak` is called with batches, as seldom as its nearly constant growth allows; it must not fall anywhere.
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
    """Where a straight line between two batches and their peaks meets the budget."""
    share = (budget - fits[1]) / (too_large[1] - fits[1])
    return min(max(fits[0] + int(share * (too_large[0] - fits[0])), fits[0] + 1), too_large[0] - 1)


def largest_batches(experiment: Experiment, patch: int, budget: float) -> dict[Recompute, int]:
    """The largest batch of patches whose step fits `budget` bytes, by what is recomputed."""
    predict = cache(partial(predict_steps, experiment, patch=patch))

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
    """The experiment with other sizes to account for, and other settings of its training; None keeps what there is.

    Raises:
        LorunError: stages for a method whose number of stages is no choice; training for one that is not trained.
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
