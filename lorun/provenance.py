"""Where a number comes from: code, configuration, data, packages, machine."""

import json
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from lorun.code import ROOT, digest, loaded_code
from lorun.data.registry import DATA_ROOT
from lorun.errors import LorunError
from lorun.methods import Experiment, Released
from lorun.revisions import UnknownRevision, git

PACKAGES = ("torch", "peft", "deepinv", "pyiqa", "numpy", "scikit-image", "pillow", "safetensors")
_NOT_CODE = (":(exclude)results", ":(exclude)*.md")

_READING = ("splits", "cubes", "measurements")
"""Keys of the registry of datasets that decide which files are read, and how."""


def provenance(experiment: Experiment, data: dict[str, str], device: torch.device) -> dict[str, Any]:
    """What every run records: one flat mapping of strings, numbers and truth values.

    `data` maps a dataset to the md5 of its folder. `commit` is null outside a git checkout; `dirty` says that files of
    the code differ from it (results and texts do not count). `versions` ends with the digest and the place of a
    baseline from elsewhere, as in "my_net=3f9a1c0b7d2e@../my_net". The key `code` is added when the work is done, since
    modules may be loaded late: see `code_used`.
    """
    loaded_code()  # keeps the digests of what is loaded so far: a later edit is not what runs
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


def code_used(experiment: Experiment, datasets: Iterable[str] = (), data: Path = DATA_ROOT) -> dict[str, str]:
    """Digests of all code that the work on an experiment used: `code` in the record of a training, evaluation, account.

    These are the modules that this process loaded, and the rules by which the `datasets` in the folder `data` and
    released weights are read.
    """
    return loaded_code() | reading_rules(experiment, datasets, data)


def reading_rules(
    experiment: Experiment, datasets: Iterable[str], data: Path = DATA_ROOT, root: Path = ROOT
) -> dict[str, str]:
    """Digests of the entries of YAML files that decide how datasets and released weights are read, by file and key.

    Raises:
        LorunError: a file is not YAML.
    """
    registry = _read_mapping(data / "registry.yaml")
    entries = {name: registry[name] for name in datasets if name in registry}
    rules: dict[str, Any] = {
        f"data/registry.yaml: {name}": [entry.get(key) for key in _READING] for name, entry in entries.items()
    }
    if isinstance(experiment.spec, Released):
        card = f"baselines/{experiment.method}/card.yaml"
        rules[f"{card}: released_names"] = _read_mapping(root / card).get("released_names")
    return {name: digest(json.dumps(rule, sort_keys=True).encode()) for name, rule in rules.items()}


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        return dict(yaml.safe_load(path.read_bytes()))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise LorunError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error


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
