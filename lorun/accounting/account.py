"""Everything that is counted of one method in one setting, in one flat record."""

from dataclasses import asdict, fields
from typing import Any

import torch

from lorun.accounting.fake import fake_tensors
from lorun.accounting.flops import reconstruction_flops
from lorun.accounting.latency import reconstruction_latency
from lorun.accounting.live_bytes import Peak, cuda_training_peak, inference_bytes, training_step_bytes
from lorun.accounting.parameters import count_parameters
from lorun.config import Experiment
from lorun.methods import build_system
from lorun.provenance import provenance


def account(experiment: Experiment, device: torch.device) -> dict[str, Any]:
    """Count parameters, live bytes of a training step and of inference, FLOPs; measure latency on `device`.

    Batch, patch and image are those of the experiment's accounting section; a method with nothing to train has null in
    the fields of the training step. `latency_*` and `cuda_*` depend on the machine, nothing else does.
    """
    said = experiment.accounting
    channels = experiment.data.channels
    batch = (said.batch, channels, said.patch, said.patch)
    image = (1, channels, said.image, said.image)

    def for_training() -> tuple[Any, Any]:
        system = build_system(experiment)
        return system.network, system.physics.at(said.patch, said.patch, padding="needed")  # as the loop does

    def for_inference() -> tuple[Any, Any]:
        system = build_system(experiment)
        return system.network, system.physics.at(said.image, said.image)

    with fake_tensors():
        system = build_system(experiment)
        parameters = count_parameters(system)
    # An algorithm that stops when it has converged has no course without values.
    fake = not getattr(system.network, "data_dependent", False)
    record: dict[str, Any] = {
        "task": experiment.task,
        "setting": experiment.setting,
        "method": experiment.method,
        "stages": getattr(system.network, "stages", None),
        "m": system.physics.m,
        **{f"parameters_{kind}": count for kind, count in asdict(parameters).items()},
        "parameters_network": parameters.network,
        "parameters_total": parameters.total,
        "step_batch": said.batch,
        "step_patch": said.patch,
        **_peak("step", training_step_bytes(for_training, batch) if parameters.trainable else None),
        "image": said.image,
        **_peak("inference", inference_bytes(for_inference, image, fake=fake)),
        "flops": reconstruction_flops(for_inference, image, fake=fake),
    }
    record["cuda_step_peak_bytes"] = cuda_training_peak(for_training, batch) if parameters.trainable else None
    if said.latency_repeats:
        network, physics = for_inference()
        latency = reconstruction_latency(
            network.to(device), physics, image, repeats=said.latency_repeats, device=device
        )
        record |= {f"latency_{name}": value for name, value in asdict(latency).items()}
    return record | provenance(experiment, {}, device)


def _peak(of: str, peak: Peak | None) -> dict[str, Any]:
    """The breakdown as flat fields; all null where there is no such computation."""
    names = [field.name for field in fields(Peak)]
    return {f"{of}_{name}": None if peak is None else getattr(peak, name) for name in names}
