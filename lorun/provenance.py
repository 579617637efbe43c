"""Where a number comes from: code, configuration, data, packages, machine."""

import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from lorun.methods import Experiment
from lorun.revisions import UnknownRevision, git

PACKAGES = ("torch", "peft", "deepinv", "pyiqa", "numpy", "scikit-image", "pillow", "safetensors")
_NOT_CODE = (":(exclude)results", ":(exclude)*.md")


def provenance(experiment: Experiment, data: dict[str, str], device: torch.device) -> dict[str, Any]:
    """What every row of a result carries: one flat mapping of strings, numbers and truth values.

    `data` maps a dataset to the md5 of its folder. `commit` is null outside a git checkout; `dirty` says that files of
    the code differ from it (results and texts do not count). `versions` ends with the digest and the place of a
    baseline that is not of this repository, as in "my_net=3f9a1c0b7d2e@../my_net".
    """
    commit, dirty = revision()
    return {
        "run": experiment.key,
        "config_hash": experiment.config_hash,
        "commit": commit,
        "dirty": dirty,
        "data_md5": " ".join(f"{name}={md5}" for name, md5 in sorted(data.items())),
        "versions": " ".join(filter(None, [versions(), experiment.spec.installed_code])),
        "python": platform.python_version(),
        "device": device_name(device),
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
    }


def versions(packages: Iterable[str] = PACKAGES) -> str:
    """What is installed, as in "torch=2.15.0 peft=0.21.2"."""
    return " ".join(f"{package}={version(package)}" for package in packages)


def device_name(device: torch.device) -> str:
    """ "cpu" or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@cache
def revision() -> tuple[str | None, bool | None]:
    """The commit of this code, and whether files of the code differ from it; None outside a git checkout."""
    root = Path(__file__).resolve().parent.parent
    try:
        commit = git(root, "rev-parse", "HEAD").decode().strip()
        changed = git(root, "status", "--porcelain", "--", ".", *_NOT_CODE).strip()
    except UnknownRevision:
        return None, None
    return commit, bool(changed)
