"""A tiny project for tests: what its dataset holds and its profile says."""

from pathlib import Path

PROJECT = Path(__file__).parents[1]

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
            "strategies": ["block1", "separate", "shared", "shared_sigma", "lorun", "lorun_random", "frozen"],
            "baselines": ["linear_mmse"],
            "training": {
                "steps": 8,
                "phase1_steps": 4,
                "batch": 2,
                "patch": 16,
                "checkpoint_every": 2,
                "validate_every": 4,
            },
            "evaluation": {"protocols": ["cs_float_y", "cs_round_y"], "keep": ["checks"], "strip": [0, 0, 16]},
            "accounting": {"batch": 2, "patch": 16, "image": 24, "latency_repeats": 1},
        }
    },
}
