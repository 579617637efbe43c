"""What a run starts from: a fitted operator, a pretrained base, released weights. An untrained run ends here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lorun.data.checksums import dataset_identity
from lorun.data.images import load_dataset
from lorun.denoisers.base import load_released as load_denoiser
from lorun.errors import LorunError
from lorun.methods import Experiment, Released, Strategy
from lorun.methods.shipped import WEIGHTS as SHIPPED_WEIGHTS
from lorun.methods.shipped import check_weights, read_shipped
from lorun.provenance import code_used, provenance
from lorun.system import System, build_system
from lorun.training.outcome import WEIGHTS, Outcome, check_files, digests, read_outcome, write_outcome
from lorun.training.patches import random_blocks
from lorun.training.released import load_released
from lorun.training.weights import load_state, load_weights, save_weights


def fitted_system(experiment: Experiment, data: Path, images: Mapping[str, np.ndarray] | None = None) -> System:
    """A new system, its operator fitted on the dataset `fit_on`, if any; `images` are that dataset if loaded before."""
    system = build_system(experiment)
    if experiment.fit_on is not None:
        held = images or load_dataset(data, experiment.fit_on, "train", experiment.channels)
        system.physics.fit(lambda side, count: random_blocks(held, side, count, experiment.seed))
    return system


def base_outcome(experiment: Experiment, runs: Path) -> Outcome | None:
    """The outcome of the base's training; None for a method without a base.

    Raises:
        LorunError: the base is not trained yet, or its files are damaged.
    """
    base = experiment.base
    if base is None:
        return None
    outcome = read_outcome(runs / base.folder)
    if outcome is None:
        task = "" if base.task == experiment.task else f" of the task {base.task!r}"
        raise LorunError(
            f"{experiment.name}: its pretrained base is missing ({runs / base.folder}); "
            f"train the method {base.method!r} in the setting {base.setting!r}{task} with the same seed first"
        )
    check_files(runs / base.folder, outcome)
    return outcome


def load_base(system: System, experiment: Experiment, runs: Path) -> None:
    """Load the denoiser of the trained base; its step sizes too in the same task, since they depend on the operator;
    and its operator, which may have been learned, if both have the same configuration."""
    base = experiment.base
    assert base is not None
    path = runs / base.folder / WEIGHTS
    pretrained = build_system(base)
    load_state(pretrained, load_weights(path), path)
    network: Any = system.network
    state = pretrained.network.state_dict()
    if isinstance(experiment.spec, Strategy) and experiment.spec.decompose:
        network.decompose_base(state)
    else:
        network.load_base(state, step_size=base.task == experiment.task)
    if base.physics == experiment.physics:
        system.physics.load_state_dict(pretrained.physics.state_dict())


def load_trained(system: System, trained: Experiment, runs: Path) -> None:
    """Load the network of a run in another setting, as it was trained."""
    path = runs / trained.folder / WEIGHTS
    other = build_system(trained)
    load_state(other, load_weights(path), path)
    system.network.load_state_dict(other.network.state_dict())


def load_shipped(system: System, experiment: Experiment) -> Outcome:
    """Load the network of a model, and its operator if both have the same configuration; returns how it was trained."""
    assert isinstance(experiment.spec, Strategy)
    assert experiment.spec.weights is not None
    shipped = read_shipped(experiment.spec.weights)
    path = experiment.spec.weights / SHIPPED_WEIGHTS
    stored = load_weights(path)
    check_weights(path, experiment.spec.weights_sha256)
    if shipped.experiment.physics != experiment.physics:
        stored = {name: tensor for name, tensor in stored.items() if not name.startswith("physics.")}
    own = {name: tensor for name, tensor in system.state_dict().items() if name.startswith("physics.")}
    load_state(system, own | stored, path)
    return Outcome.model_validate(shipped.training)


def starting_system(
    experiment: Experiment, runs: Path, data: Path, images: Mapping[str, np.ndarray] | None = None
) -> System:
    """The system before the first step: a fitted operator, and the weights of a base or of a published denoiser.

    `images` are those of the dataset `fit_on` if loaded before. The base's training must have completed.
    """
    system = fitted_system(experiment, data, images)
    if experiment.trained_as is not None:
        load_trained(system, experiment.trained_as, runs)
        return system
    if experiment.base is not None:
        load_base(system, experiment, runs)
    if isinstance(experiment.spec, Strategy) and experiment.spec.published:
        network: Any = system.network
        load_denoiser(experiment.spec.denoiser, network.denoisers[0].base_parameters())
    return system


def finish_untrained(experiment: Experiment, runs: Path, data: Path) -> Outcome:
    """Write the weights and the outcome of a run without training, as `lorun.training.train` describes.

    Raises:
        LorunError: data or weights are missing or do not fit; the network has trainable parameters.
    """
    torch.set_num_threads(1)  # a fit depends on it in the last digits
    folder = runs / experiment.folder
    outcome = base_outcome(experiment, runs)
    md5s = {name: dataset_identity(data, name) for name in experiment.trained_on}
    found: dict[str, Any] = {"status": "completed"}
    if outcome is not None and outcome.status != "completed":
        found = {"status": outcome.status, "message": f"in the training that it starts from: {outcome.message}"}
    else:
        system = starting_system(experiment, runs, data)
        if isinstance(experiment.spec, Released):
            load_released(system, experiment.spec.reference, experiment.spec.weights)
            found["checkpoint_policy"] = "released"
        elif isinstance(experiment.spec, Strategy) and experiment.spec.weights is not None:
            outcome = load_shipped(system, experiment)
            found["checkpoint_policy"] = "released"
        elif experiment.trained_as is not None:
            found["checkpoint_policy"] = None if outcome is None else outcome.checkpoint_policy
        elif any(parameter.requires_grad for parameter in system.parameters()):
            raise LorunError(f"{experiment.name} has parameters to train, but its card says `trained: false`")
        save_weights(folder / WEIGHTS, system.state_dict(), {"experiment": experiment.model_dump_json()})
        found["files"] = digests(folder)
    outcome = Outcome(
        **found,
        total_steps=0 if outcome is None else outcome.total_steps,
        training_flops=0 if outcome is None else outcome.training_flops,
        provenance=provenance(experiment, md5s, torch.device("cpu")),
        code=code_used(experiment, experiment.trained_on, None if outcome is None else outcome.code),
    )
    write_outcome(folder, outcome)
    return outcome
