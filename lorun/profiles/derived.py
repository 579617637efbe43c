"""A profile with further methods and other keys, made from an existing one."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lorun import plugins
from lorun.errors import one_of
from lorun.files import write_text
from lorun.methods import STRATEGIES
from lorun.profiles.profile import Profile
from lorun.profiles.reading import choose_tasks, load_profile, merge, read_content
from lorun.profiles.trials import read_trials, trials_path, write_trials


def derive_profile(
    config: Path,
    folder: Path,
    methods: Sequence[str],
    *,
    tasks: Collection[str],
    only: str | None,
    changes: Mapping[str, Any],
) -> tuple[Path, Profile]:
    """Write a profile that has the methods in some tasks of another one, and read it.

    Learning rates that were tuned for the other profile hold as long as its trainings are the same; new choices are
    written beside the new profile.

    Args:
        config: the other profile, which stays as it is.
        folder: where to write `profile.yaml` and `tuned/`.
        methods: strategies, variants, and baselines by name or path.
        tasks: the tasks that get the methods and the changes; the others stay as they are.
        only: read this task alone, see `load_profile`.
        changes: other keys of the tasks, nested.

    Raises:
        LorunError: the profile is not valid with them; as `load_profile`.
    """
    content = read_content(config)
    content["tasks"] = choose_tasks(content["tasks"], only)
    for name in tasks:
        task = merge(content["tasks"][name], changes)
        strategies, baselines = [*(task.get("strategies") or [])], [*(task.get("baselines") or [])]
        for method in methods:
            if method not in {*strategies, *baselines}:
                (strategies if method in {*STRATEGIES, *(task.get("variants") or {})} else baselines).append(method)
        content["tasks"][name] = {**task, "strategies": strategies, "baselines": baselines}
    path = folder / "profile.yaml"
    write_text(path, yaml.safe_dump(content, sort_keys=False))
    tuned = trials_path(path, content["profile"])
    known = read_trials(trials_path(config, content["profile"]))
    places = {(trial.task, trial.method) for trial in known}
    own = [trial for trial in read_trials(tuned) if (trial.task, trial.method) not in places]
    write_trials(tuned, [*known, *own])
    return path, load_profile(path, only)


def name_of(method: str, variants: Collection[str] = ()) -> str:
    """The name in tables of a method that is given as users do: a strategy, a variant, or a baseline by name or path.

    Raises:
        LorunError: there is no such method, or as `lorun.plugins.find`.
    """
    if method in STRATEGIES or method in variants:
        return method
    if "/" not in method and not Path(method).is_dir():
        one_of("method", method, [*STRATEGIES, *variants, *plugins.names(), *plugins.installed_names()])
    return plugins.find(method).name
