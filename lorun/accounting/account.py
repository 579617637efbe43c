"""All costs of one method in one setting, in one flat record."""

from dataclasses import asdict, fields
from typing import Any

import torch

from lorun.accounting.building import inference_build, step_build
from lorun.accounting.fake import fake_tensors
from lorun.accounting.flops import reconstruction_flops
from lorun.accounting.latency import reconstruction_latency
from lorun.accounting.live_bytes import Peak, cuda_training_peak, inference_bytes
from lorun.accounting.parameters import count_parameters
from lorun.accounting.prediction import first_that_fits, predict_steps
from lorun.code import loaded_code
from lorun.config import Recompute, TrainingConfig
from lorun.methods import Experiment
from lorun.provenance import provenance
from lorun.step import counted_precision
from lorun.system import build_system


def account(experiment: Experiment, device: torch.device, *, latency: bool = True) -> dict[str, Any]:
    """Count parameters, live bytes of a training step and of inference, FLOPs; measure latency on `device`.

    Batch, patch and image come from the experiment's accounting section, everything else about the step from its
    training, or from the default settings for released weights. `step_*` is the step as trained; `kept_*` and
    `recomputed_*` are the same step without and with recomputation. All are null if nothing can be trained. Only
    `latency_*` and `cuda_*` depend on the machine: the precision `auto` counts as float32.
    """
    sizes = experiment.accounting
    channels = experiment.channels
    side = (sizes.patch, sizes.patch)
    image = (1, channels, sizes.image, sizes.image)
    for_inference = inference_build(experiment)
    with fake_tensors():
        system = build_system(experiment)
        parameters = count_parameters(system)
    # An algorithm with a convergence test needs real values.
    fake = not getattr(system.network, "data_dependent", False)
    training = counted_precision(experiment.training or TrainingConfig(steps=1))
    steps = {}
    if parameters.trainable:
        steps = predict_steps(experiment, sizes.batch, side, training=training, fake=fake)
    recompute = _as_trained(training, steps) if steps else None
    record: dict[str, Any] = {
        "task": experiment.task,
        "setting": experiment.setting,
        "method": experiment.method,
        "stages": getattr(system.network, "stages", None),
        "m": getattr(system.physics, "m", None),  # measurements per block, for block operators
        **{f"parameters_{kind}": count for kind, count in asdict(parameters).items()},
        "parameters_network": parameters.network,
        "parameters_total": parameters.total,
        "step_batch": sizes.batch,
        "step_patch": sizes.patch,
        "step_precision": training.precision if steps else None,
        "step_recompute": recompute,
        **_peak("step", steps.get(recompute) if recompute else None),
        **_peak("kept", steps.get("none")),
        **_peak("recomputed", steps.get("stage")),
        "image": sizes.image,
        **_peak("inference", inference_bytes(for_inference, image, fake=fake)),
        "flops": reconstruction_flops(for_inference, image, fake=fake),
    }
    record["cuda_step_peak_bytes"] = None
    if recompute is not None:
        build = step_build(experiment, side, recompute)
        shape = (sizes.batch, channels, *side)
        record["cuda_step_peak_bytes"] = cuda_training_peak(build, shape, training)
    if latency and sizes.latency_repeats:
        network, physics = for_inference()
        measured = reconstruction_latency(
            network.to(device), physics, image, repeats=sizes.latency_repeats, device=device
        )
        record |= {f"latency_{name}": value for name, value in asdict(measured).items()}
    return record | provenance(experiment, {}, device) | {"account_key": experiment.account_key, "code": loaded_code()}


def _as_trained(training: TrainingConfig, steps: dict[Recompute, Peak]) -> Recompute:
    """What the training recomputes; `auto` without a budget depends on a GPU and counts as none."""
    if training.recompute != "auto":
        return training.recompute if training.recompute in steps else "none"
    if training.memory_budget is None:
        return "none"
    return first_that_fits(steps, 1e6 * training.memory_budget) or list(steps)[-1]


def _peak(what: str, peak: Peak | None) -> dict[str, Any]:
    """The breakdown as flat fields; all null without such a computation."""
    names = [field.name for field in fields(Peak)]
    return {f"{what}_{name}": None if peak is None else getattr(peak, name) for name in names}
