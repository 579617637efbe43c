"""Memory and time that a training asks from a scheduler: upper bounds in milliseconds, without a trace of the network.

A denoiser alone is called once on fake tensors. `lorun.accounting.prediction` counts bytes exactly, in ten seconds a
method. What is stated here without a count is generous: a job that asks too much waits, one that asks too little dies.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from lorun.accounting.fake import fake_tensors
from lorun.config import TrainingConfig
from lorun.denoisers import DenoiserConfig
from lorun.methods import Experiment, Strategy

START_MB = 4000
"""Of a job before it computes: three processes of 1 GB, the training and two of Snakemake."""

GPU_START_MB = 8000
"""The same on a GPU, which has the activations, while the host also holds the CUDA context."""

START_MINUTES = 30
"""Of a job before and after its steps: imports, reading of the data, validation, saving."""

FLOPS = {"cpu": 1e10, "cuda": 1e13}
"""Assumed counted FLOPs a second, of a core and of a GPU. On a core of a server of 2023, trainings of the profile
ablation reached 4.6e10 to 1e11; on no GPU was a whole training timed."""

BASELINE_VALUES, BASELINE_FLOPS, BASELINE_WEIGHTS = 2e4, 1e8, 2e7
"""Of a baseline, for a pixel: values kept for the backward pass, and FLOPs of a reconstruction; and its weights."""

SCORING_MB = 2000
"""Of reconstructions and scores, beside what starts the job."""


def scoring_memory(*, gpu: bool = False) -> int:
    """MB of host memory for a job that scores or counts without training."""
    return SCORING_MB + (GPU_START_MB if gpu else START_MB)


def training_memory(experiment: Experiment, *, gpu: bool = False) -> int:
    """MB of host memory for the training of an experiment, an upper bound; what starts it if it is not trained."""
    start = GPU_START_MB if gpu else START_MB
    training = experiment.training
    if training is None:
        return start
    values, _, weights = _call(experiment, training)
    kept = 5 * 4 * weights  # float32: weights, gradients, two moments, an average
    if not gpu:
        alive = 1 if training.recompute in ("stage", "half_stage") else experiment.stages or 1
        kept += training.memory_budget * 1e6 if training.memory_budget else 2 * 4 * training.batch * alive * values
    return start + math.ceil(kept / 1e6)


def training_minutes(experiments: Iterable[Experiment], *, gpu: bool = False) -> int:
    """Minutes for the trainings of experiments one after the other, from their FLOPs and the assumed throughput."""
    seconds = sum(_training_seconds(experiment, gpu) for experiment in experiments)
    return START_MINUTES + math.ceil(seconds / 60)


def _training_seconds(experiment: Experiment, gpu: bool) -> float:
    training = experiment.training
    if training is None:
        return 0
    speed = FLOPS["cuda"] if gpu else FLOPS["cpu"] * training.cpu_threads
    if training.budget is not None:
        return training.budget / speed
    _, flops, _ = _call(experiment, training)
    assert training.steps is not None
    stages = experiment.stages or 1
    return training.steps * training.batch * 4 * stages * flops / speed  # forward, backward, recomputed


def _call(experiment: Experiment, training: TrainingConfig) -> tuple[float, float, float]:
    """Values kept and FLOPs of a stage for one patch, and the number of weights of all stages."""
    height, width = training.patch_size
    spec = experiment.spec
    if not isinstance(spec, Strategy):
        pixels = height * width
        return BASELINE_VALUES * pixels, BASELINE_FLOPS * pixels, BASELINE_WEIGHTS
    noise_map = spec.noise_level is not None or experiment.physics.noise_level_input
    shape = (1, experiment.channels, height, width)
    key = (spec.denoiser.model_dump_json(), shape, noise_map)
    if key not in _counted:
        _counted[key] = _denoiser_call(spec.denoiser, shape, noise_map)
    values, flops, weights = _counted[key]
    return values, flops, weights * (spec.stages + 1)  # at most a denoiser per stage, or one and adapters


_counted: dict[tuple[str, tuple[int, ...], bool], tuple[int, int, int]] = {}


def _denoiser_call(section: DenoiserConfig, shape: tuple[int, ...], noise_map: bool) -> tuple[int, int, int]:
    """Values that a denoiser keeps for its backward pass on (1, channels, height, width), its FLOPs, its weights."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> Any:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes() // 4
        return tensor

    with fake_tensors(), FlopCounterMode(display=False) as counter, saved_tensors_hooks(keep, lambda tensor: tensor):
        denoiser = section.build(shape[1], noise_map)
        denoiser(torch.ones(shape), *((torch.ones(1, 1, 1, 1),) if noise_map else ()))
    return sum(kept.values()), counter.get_total_flops(), sum(weight.numel() for weight in denoiser.parameters())
