"""A tiny project for tests: the images of its datasets, and its profiles."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from lorun.config import AdapterConfig
from lorun.methods import PRESETS, Experiment
from lorun.unfolding import UnfoldingNetwork

PROJECT = Path(__file__).parents[1]

NETWORKS = ("block1", "block_k", "shared", "shared_sigma", "lorun", "lorun_sigma", "relaxed", "frozen")
"""Strategies with different networks; those of the others are the same, and start elsewhere."""

IMAGES = {"train": ["ramp", "rings", "steps"], "validation": ["waves"], "test": ["checks", "blobs"]}

PROFILE = {
    "profile": "tiny",
    "seeds": [0],
    "tasks": {
        "cs": {
            "data": {"train": "tiny", "validation": "tiny", "test": ["tiny"]},
            "physics": {"name": "block_cs", "block": 8, "initial_blocks": 500},
            "settings": {"r25": {"ratio": 25}},
            "denoiser": {"name": "unet", "width": 4, "levels": 2, "blocks": 1},
            "unfolding": {"stages": 3},
            "strategies": ["block1", "block_k", "shared", "shared_sigma", "lorun", "lorun_random", "frozen"],
            "baselines": ["linear_mmse"],
            "training": {
                "steps": 8,
                "phase1_steps": 4,
                "batch": 2,
                "patch": 16,
                "checkpoint_every": 2,
                "validate_every": 4,
                "precision": "float32",
            },
            "evaluation": {"protocols": ["cs_float_y", "cs_round_y"], "keep": ["checks"], "strip": [0, 0, 16]},
            "accounting": {"batch": 2, "patch": 16, "image": 24, "latency_repeats": 1},
        }
    },
}

SPECTRAL_PROFILE = {
    "profile": "spectral",
    "seeds": [0],
    "tasks": {
        "cassi": {
            "data": {"train": "cubes", "validation": "cubes", "test": ["cubes"], "channels": 28},
            "physics": {"name": "cassi", "mask_side": 24},
            "settings": {"snapshot": {}},
            "denoiser": {"name": "cnn", "width": 4, "depth": 2},
            "strategies": ["block1"],
            "baselines": ["initial_reconstruction"],
            "training": {"steps": 2, "phase1_steps": 1, "batch": 1, "patch": 12, "precision": "float32"},
            "evaluation": {
                "protocols": ["cassi_mst_uint8", "cassi_torch_psnr", "measurement_residual"],
                "keep": ["checks"],
                "points": [[3, 4], [19, 21]],
                "strip": [0, 0, 16],
            },
            "accounting": {"batch": 1, "patch": 12, "image": 16, "latency_repeats": 0},
        }
    },
}

SR_PROFILE = {
    "profile": "sr",
    "seeds": [0],
    "tasks": {
        "sr": {
            "data": {"train": "colour", "validation": "colour", "test": ["colour"], "channels": 3},
            "physics": {
                "name": "blur_downsample",
                "kernels": "file",
                "kernels_file": "data/blurs/blurs.npy",
                "scored": [3, 1],
                "noise": 2.55,
            },
            "settings": {"x2": {"scale": 2}},
            "denoiser": {"name": "cnn", "width": 4, "depth": 2},
            "unfolding": {"stages": 2},
            "strategies": ["block1", "lorun"],
            "baselines": ["initial_reconstruction"],
            "training": {
                "steps": 4,
                "phase1_steps": 2,
                "batch": 2,
                "patch": 16,
                "validate_every": 1,
                "precision": "float32",
            },
            "evaluation": {
                "protocols": ["usrnet_rgb", "sr_y", "measurement_residual"],
                "keep": ["checks"],
                "strip": [0, 0, 48],
            },
            "accounting": {"batch": 2, "patch": 16, "image": 24, "latency_repeats": 0},
        }
    },
}

CAPTURES = """\
captures:
  role: test
  tasks: [cassi]
  what: measurements
  licence: CC0
  redistribution: "yes"
  citation: nobody
  built_by: tests
  measurements: {variable: [meas, meas_real], scale: 0.8}
  splits: {test: [checks.mat, blobs.mat]}
"""


def with_spec(experiment: Experiment, **fields: Any) -> Experiment:
    """An experiment with changed fields of its method."""
    return experiment.model_copy(update={"spec": experiment.spec.model_copy(update=fields)})


def with_training(experiment: Experiment, **fields: Any) -> Experiment:
    """An experiment with changed training settings, in its base too except for the number of steps."""
    assert experiment.training is not None
    changes: dict[str, Any] = {"training": experiment.training.model_copy(update=fields)}
    if experiment.base is not None:
        same_steps = {name: value for name, value in fields.items() if name != "steps"}
        changes["base"] = with_training(experiment.base, **same_steps)
    return with_spec(experiment, **changes)


def unfolding_network(
    strategy: str,
    make_denoiser: Callable[[bool], nn.Module],
    stages: int,
    *,
    gamma: float = 10.0,
    composed: bool = True,
    **settings: Any,
) -> UnfoldingNetwork:
    """The network of a strategy."""
    preset = PRESETS[strategy]
    adapters = AdapterConfig(gamma=gamma, forward="composed" if composed else "ordinary")
    return UnfoldingNetwork(
        make_denoiser,
        1 if preset.one_stage else stages,
        sharing=preset.sharing,
        noise_level=0.1 if preset.noise_map else None,
        adapters=adapters if preset.adapted else None,
        joint=preset.joint,
        frozen=preset.frozen,
        **settings,
    )
