"""Profiles from YAML files, of which one may extend another."""

from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from lorun import plugins
from lorun.config.reading import load_yaml
from lorun.config.registry import field_names
from lorun.config.section import explain
from lorun.errors import LorunError, UnknownName, one_line, short
from lorun.profiles.profile import Profile
from lorun.profiles.sizes import check_sizes
from lorun.profiles.trials import read_trials, trials_path


def load_profile(path: Path | str, task: str | None = None) -> Profile:
    """Read a profile.

    `extends: other.yaml` starts from another file in the same folder and overrides its keys; null removes them.
    Learning rates that were tuned are read from tuned/PROFILE.csv in the same folder.

    Args:
        task: read this task alone, with the tasks that its bases are trained in: a run then loads, and records, the
            code of its own operators.

    Raises:
        LorunError: one line with the file, the key, its value, and the nearest known key or the choices.
    """
    path = Path(path)
    content = read_content(path)
    if isinstance(content.get("tasks"), dict):
        content["tasks"] = choose_tasks(content["tasks"], task)
    try:
        profile = Profile.model_validate(content)
        check_sizes(profile)
        for one in profile.tasks.values() if task is None else ():  # this imports the baselines
            for method, options in one.options.items():
                plugins.check_options(one.located[method].reference, options)
    except ValidationError as error:
        raise LorunError(f"{path}: {explain(error, field_names(Profile))}") from error
    except LorunError as error:
        raise LorunError(f"{path}: {error}") from error
    except (OverflowError, RecursionError) as error:
        raise LorunError(f"{path}: a number is too large, or it is nested too deeply ({error})") from error
    profile.use_trials(read_trials(trials_path(path, profile.profile)))
    return profile


def profile_schema() -> dict[str, Any]:
    """The JSON schema of profiles."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Profile.model_json_schema()}


def read_content(path: Path) -> dict[str, Any]:
    """The content of a file over that of the file that it extends."""
    return reduce(merge, [content for _, content in reversed(_chain(path))])


def files_of(path: Path) -> list[Path]:
    """The file of a profile and those that it extends, one after another."""
    return [file for file, _ in _chain(path)]


def _chain(path: Path, children: tuple[Path, ...] = ()) -> list[tuple[Path, dict[str, Any]]]:
    """A file and those that it extends, with their content. `children` are the files that extend this one."""
    if path in children:
        raise LorunError(f"{path}: extends itself, by way of {', '.join(map(str, children))}")
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnknownName("profile", str(path), sorted(map(str, path.parent.glob("*.yaml")))) from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise LorunError(f"{path}: cannot be read as YAML: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise LorunError(f"{path}: a profile is a mapping of keys, not {type(content).__name__}")
    parent = content.pop("extends", None)
    if parent is None:
        return [(path, content)]
    if not isinstance(parent, str) or not parent.isprintable() or len(parent) > 255:
        raise LorunError(f"{path}: `extends` (={short(parent)}) must be the name of a file in {path.parent}")
    return [(path, content), *_chain(path.parent / parent, (*children, path))]


_REPLACES = {"budget": {"steps", "phase1_steps"}, "steps": {"budget"}}
"""A length of training in a file -> those that it replaces in the file below."""


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`, without the keys that are null in `above`. A section of another `name` replaces the one
    below, since it has other keys."""
    if above.get("name", below.get("name")) != below.get("name"):
        return dict(above)
    replaced = {old for key, others in _REPLACES.items() if above.get(key) is not None for old in others}
    merged = {key: value for key, value in below.items() if above.get(key, value) is not None and key not in replaced}
    for key, value in above.items():
        if value is not None:
            old = merged.get(key)
            merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def choose_tasks(tasks: Mapping[str, Any], task: str | None) -> dict[str, Any]:
    """All tasks; where `task` is one of them, only that one and those that train its bases."""
    if task is None or task not in tasks:
        return dict(tasks)
    needed = [task]
    for name in needed:  # grows on the way
        content = tasks.get(name)
        bases = content.get("base") if isinstance(content, dict) else None
        for base in bases.values() if isinstance(bases, dict) else ():
            if isinstance(base, dict) and (other := str(base.get("task", name))) not in needed:
                needed.append(other)
    return {name: entry for name, entry in tasks.items() if name in needed}
