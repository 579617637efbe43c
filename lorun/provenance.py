"""Where a number comes from: code, configuration, data, packages, machine."""

import json
import platform
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from lorun.code import ROOT, digest, loaded_code
from lorun.config.reading import load_yaml
from lorun.data.registry import read_registry
from lorun.methods import Experiment, Released
from lorun.revisions import UnknownRevision, git

PACKAGES = ("torch", "peft", "deepinv", "pyiqa", "numpy", "scikit-image", "pillow", "safetensors")
_CODE = ("lorun", "baselines", "workflow", "Snakefile", "pyproject.toml", "requirements.lock", ":(exclude)*.md")
"""What reaches a run. Profiles and datasets are recorded by hashes, tables and texts reach none."""

_READING = {"splits", "cubes", "measurements"}  # keys of the registry that decide which files are read, and how


def provenance(experiment: Experiment, data: dict[str, str], device: torch.device) -> dict[str, Any]:
    """What every run records: one flat mapping of strings, numbers and truth values.

    `data` maps a dataset to the md5 of its folder. `commit` is null outside a git checkout; `dirty` says that files of
    the code differ from it (profiles, data, results and texts do not count). `versions` ends with the digests and the
    places of code from elsewhere, as in "my_net=3f9a1c0b7d2e@../my_net". `code_used` has the code, when the work
    is done.
    """
    commit, dirty = revision()
    return {
        "run": experiment.key,
        "config_hash": experiment.config_hash,
        "commit": commit,
        "dirty": dirty,
        "data_md5": " ".join(f"{name}={md5}" for name, md5 in sorted(data.items())),
        "versions": " ".join(filter(None, [versions(), *experiment.installed_code])),
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
    }


def code_used(experiment: Experiment, datasets: Iterable[str], base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Digests of the modules that this process loaded, and of the rules by which it read datasets and weights.

    `base` is what the training of the base recorded; where it differs, it is the older.
    """
    return loaded_code() | reading_rules(experiment, datasets) | dict(base or {})


def reading_rules(experiment: Experiment, datasets: Iterable[str], root: Path = ROOT) -> dict[str, str]:
    """Digests of the entries of YAML files that decide how datasets and released weights are read, by file and key.

    Raises:
        LorunError: the registry of datasets is damaged.
    """
    registry = read_registry(root / "data")
    rules: dict[str, Any] = {
        f"data/registry.yaml: {name}": registry[name].model_dump(mode="json", include=_READING)
        for name in datasets
        if name in registry
    }
    if isinstance(experiment.spec, Released):
        card = f"baselines/{experiment.method}/card.yaml"
        rules[f"{card}: released_names"] = load_yaml((root / card).read_text(encoding="utf-8")).get("released_names")
    return {name: digest(json.dumps(rule, sort_keys=True).encode()) for name, rule in rules.items()}


def versions(packages: Iterable[str] = PACKAGES) -> str:
    """What is installed, as in "torch=2.15.0 peft=0.21.2"."""
    return " ".join(f"{package}={version(package)}" for package in packages)


@cache
def revision() -> tuple[str | None, bool | None]:
    """The commit of this code, and whether files of the code differ from it, new ones too; None where git does not
    know it, which is said on standard error."""
    try:
        git(ROOT, "ls-files", "--error-unmatch", "lorun")  # not a repository that merely lies around it
        commit = git(ROOT, "rev-parse", "HEAD").decode().strip()
        changed = git(ROOT, "status", "--porcelain", "--", *_CODE).strip()
    except UnknownRevision as error:
        print(f"no commit is recorded with the results: {error}", file=sys.stderr)
        return None, None
    return commit, bool(changed)
