"""Everything that is counted of one method in one setting, in one flat record."""

from dataclasses import asdict, fields
from typing import Any

import torch

from lorun.accounting.fake import fake_tensors
from lorun.accounting.flops import reconstruction_flops
from lorun.accounting.latency import reconstruction_latency
from lorun.accounting.live_bytes import Peak, cuda_training_peak, inference_bytes
from lorun.accounting.parameters import count_parameters
from lorun.accounting.prediction import first_that_fits, inference_build, predict_steps, step_build
from lorun.config import Experiment, Recompute
from lorun.provenance import provenance
from lorun.step import at_precision
from lorun.system import build_system


def account(experiment: Experiment, device: torch.device, *, latency: bool = True) -> dict[str, Any]:
    """Count parameters, live bytes of a training step and of inference, FLOPs; measure latency on `device`.

    Batch, patch and image are those of the experiment's accounting section, everything else of the step that of its
    training; `step_*` is the step with what the training recomputes, `kept_*` and `recomputed_*` the same step either
    way. A method with nothing to train has null in their fields. `latency_*` and `cuda_*` depend on the machine,
    nothing else does: the precision `auto` counts as float32 on each.
    """
    said = experiment.accounting
    channels = experiment.data.channels
    image = (1, channels, said.image, said.image)
    for_inference = inference_build(experiment)
    with fake_tensors():
        system = build_system(experiment)
        parameters = count_parameters(system)
    # An algorithm that stops when it has converged has no course without values.
    fake = not getattr(system.network, "data_dependent", False)
    on_cpu = experiment.model_copy(update={"training": at_precision(experiment.training, torch.device("cpu"))})
    steps = predict_steps(on_cpu, said.batch, said.patch, fake=fake) if parameters.trainable else {}
    recompute = _as_trained(experiment, steps) if steps else None
    record: dict[str, Any] = {
        "task": experiment.task,
        "setting": experiment.setting,
        "method": experiment.method,
        "stages": getattr(system.network, "stages", None),
        "m": getattr(system.physics, "m", None),  # measurements per block, where there are blocks
        **{f"parameters_{kind}": count for kind, count in asdict(parameters).items()},
        "parameters_network": parameters.network,
        "parameters_total": parameters.total,
        "step_batch": said.batch,
        "step_patch": said.patch,
        "step_precision": on_cpu.training.precision if steps else None,
        "step_recompute": recompute,
        **_peak("step", steps.get(recompute) if recompute else None),
        **_peak("kept", steps.get("none")),
        **_peak("recomputed", steps.get("stage")),
        "image": said.image,
        **_peak("inference", inference_bytes(for_inference, image, fake=fake)),
        "flops": reconstruction_flops(for_inference, image, fake=fake),
    }
    record["cuda_step_peak_bytes"] = None
    if recompute is not None:
        build = step_build(experiment, said.patch, recompute)
        shape = (said.batch, channels, said.patch, said.patch)
        record["cuda_step_peak_bytes"] = cuda_training_peak(build, shape, on_cpu.training)
    if latency and said.latency_repeats:
        network, physics = for_inference()
        measured = reconstruction_latency(
            network.to(device), physics, image, repeats=said.latency_repeats, device=device
        )
        record |= {f"latency_{name}": value for name, value in asdict(measured).items()}
    return record | provenance(experiment, {}, device)


def _as_trained(experiment: Experiment, steps: dict[Recompute, Peak]) -> Recompute:
    """What the training recomputes; `auto` without a budget asks a GPU and so counts as none."""
    training = experiment.training
    if training.recompute != "auto":
        return training.recompute if training.recompute in steps else "none"
    if training.memory_budget is None:
        return "none"
    return first_that_fits(steps, 1e6 * training.memory_budget) or list(steps)[-1]


def _peak(of: str, peak: Peak | None) -> dict[str, Any]:
    """The breakdown as flat fields; all null where there is no such computation."""
    names = [field.name for field in fields(Peak)]
    return {f"{of}_{name}": None if peak is None else getattr(peak, name) for name in names}
