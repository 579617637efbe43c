"""Profiles: `config/NAME.yaml`, read, checked and resolved into experiments.

A *profile* lists tasks; a task lists *settings* (variants of its operator), *methods* (sharing strategies and
baselines) and its budget. `Profile.experiments` resolves them into one `Experiment` per (task, setting, method, seed).
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from lorun import plugins
from lorun.config import AccountingConfig, AdapterConfig, EvaluationConfig, Section, TaskTraining, UnfoldingConfig
from lorun.config.registry import field_names
from lorun.config.section import explain
from lorun.denoisers import DENOISERS, DenoiserConfig
from lorun.errors import LorunError, UnknownName
from lorun.methods import PRESETS, PRETRAIN, STRATEGIES, Experiment, Preset, Released, Trained, TrainingData, Untrained
from lorun.methods.baselines import Located, locate
from lorun.methods.experiment import Channels, Spec
from lorun.physics import OPERATORS, PhysicsConfig

StrategyName = Literal[STRATEGIES]  # type: ignore[valid-type]


class DataConfig(Section):
    """The datasets of a task."""

    train: str | None = Field(None, description="dataset whose train split is learned from")
    validation: str | None = Field(None, description="dataset whose validation split watches the training")
    test: list[str] = Field(min_length=1, description="datasets whose test split is scored")
    channels: Channels = Field(1, description="gray, RGB, or the 28 bands of a spectral cube")
    mosaic: bool = Field(False, description="make half of each batch 2 x 2 mosaics of crops of half the side")


class BaseReference(Section):
    """Where the base of a method is trained."""

    task: str | None = Field(None, description="task of the profile; by default the method's own")
    setting: str = Field(description="setting of that task")
    method: str = Field(PRETRAIN, description="strategy of that task, or pretrain (phase 1 of lorun)")


class TaskConfig(Section):
    """One inverse problem: data, operator and its settings, network, methods, budget, measures."""

    data: DataConfig
    physics: dict[str, Any] = Field(description="what all settings share: `name` chooses the operator")
    settings: dict[str, dict[str, Any]] = Field(min_length=1, description="name -> what it changes in the physics")
    denoiser: DenoiserConfig = Field(default_factory=lambda: DENOISERS.parse({"name": "unet"}))
    unfolding: UnfoldingConfig = UnfoldingConfig()
    lora: AdapterConfig = AdapterConfig()
    strategies: list[StrategyName] = Field(default_factory=list)
    baselines: list[str] = Field(
        default_factory=list,
        description="folders of baselines/, paths of other folders (with a slash), or entry points of packages",
    )
    options: dict[str, dict[str, Any]] = Field(default_factory=dict, description="baseline -> its own options")
    base: dict[str, BaseReference] = Field(
        default_factory=dict,
        description="method -> where the pretrained network is trained that it starts from; lorun and frozen pretrain "
        "their own where they are not named",
    )
    weights: dict[str, dict[str, Path]] = Field(
        default_factory=dict,
        description="baseline -> setting -> file of released weights, instead of a training; the baseline then runs in "
        "these settings alone",
    )
    only: dict[str, list[str]] = Field(
        default_factory=dict, description="method -> the settings that it runs in, instead of all"
    )
    training: TaskTraining | None = Field(None, description="may be left out where nothing is trained")
    evaluation: EvaluationConfig
    accounting: AccountingConfig = AccountingConfig()

    @model_validator(mode="after")
    def _check_settings(self) -> Self:
        for setting in self.settings:
            try:
                physics = self.physics_of(setting)
            except ValidationError as error:
                keys = OPERATORS.get(str(self.merged_physics(setting)["name"])).model_fields
                raise ValueError(f"setting `{setting}`: {explain(error, keys)}") from error
            except LorunError as error:
                raise ValueError(f"setting `{setting}`: {error}") from error
            if physics.channels not in (None, self.data.channels):
                raise ValueError(
                    f"setting `{setting}`: {physics.channels} bands, but `data.channels` is {self.data.channels}"
                )
            if physics.fitted and self.data.train is None:
                raise ValueError(f"setting `{setting}`: its initial reconstruction is fitted: give `data.train`")
        return self

    @model_validator(mode="after")
    def _check_points(self) -> Self:
        if self.evaluation.points and self.data.channels != 28:
            raise ValueError(f"`evaluation.points` are of spectra, but `data.channels` is {self.data.channels}")
        return self

    @model_validator(mode="after")
    def _check_baselines(self) -> Self:
        try:
            self.located  # noqa: B018 - finds every one
        except LorunError as error:
            raise ValueError(f"`baselines`: {error}") from error
        return self

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if not self.methods:
            raise ValueError("give `strategies` or `baselines`")
        twice = sorted({method for method in self.methods if self.methods.count(method) > 1})
        if twice:
            raise ValueError(f"two methods have one name: {', '.join(twice)}")
        for key in ("only", "weights", "options", "base"):
            for method in getattr(self, key):
                if method not in self.methods:
                    raise ValueError(f"`{key}` names the method `{method}`, which the task does not have")
        for key in ("options", "weights"):
            for method in getattr(self, key):
                if method in PRESETS:
                    raise ValueError(f"`{key}` is for baselines, not for the strategy `{method}`")
        for method, settings in {**self.only, **self.weights}.items():
            unknown = sorted(set(settings) - set(self.settings))
            if unknown:
                raise ValueError(f"`weights` or `only` of `{method}` name no settings of the task: {unknown}")
        return self

    @model_validator(mode="after")
    def _check_training(self) -> Self:
        trained = [method for method in self.methods if self._is_trained(method)]
        if trained and self.training is None:
            raise ValueError(f"`training` is missing: {', '.join(trained)} are trained")
        if trained and None in (self.data.train, self.data.validation):
            raise ValueError(f"`data.train` and `data.validation` are needed: {', '.join(trained)} are trained")
        for method in self.training.learning_rates if self.training is not None else ():
            preset = PRESETS.get(method)
            if preset is not None and preset.rate is not None:
                raise ValueError(
                    f"`learning_rates` of `{method}`: it takes that of `{preset.rate}`, whose base it shares"
                )
        for method in self.methods:
            if method in PRESETS and PRESETS[method].base == "own" and method not in self.base:
                self._check_phase1(method)
        for method in self.methods:
            for setting in self.settings_of(method) if not self._is_trained(method) else ():
                if self.physics_of(setting).learned and method not in self.weights:
                    raise ValueError(f"`{method}` trains nothing, but the operator of setting `{setting}` is learned")
        return self

    @model_validator(mode="after")
    def _check_bases(self) -> Self:
        for method, base in self.base.items():
            if base.task is None and base.setting not in self.settings:
                choices = ", ".join(self.settings)
                raise ValueError(f"`base` of `{method}`: no setting {base.setting!r} in this task: {choices}")
        for method in self.methods:
            if method in PRESETS and PRESETS[method].base == "elsewhere":
                if method not in self.base:
                    raise ValueError(f"`{method}` needs a `base`: the setting whose pretrained network it starts from")
                if not self.settings_of(method):
                    raise ValueError(
                        f"`{method}` runs in the settings other than that of its base "
                        f"(={self.base[method].setting!r}); there is none"
                    )
        return self

    def _check_phase1(self, method: str) -> None:
        if self.training is not None and self.training.phase1_steps is None:
            raise ValueError(f"`training.phase1_steps` is missing: `{method}` pretrains its base")

    def _is_trained(self, method: str) -> bool:
        if method in PRESETS:
            return True
        return method not in self.weights and self.located[method].trained

    def settings_of(self, method: str) -> list[str]:
        """The settings that a method runs in."""
        chosen: Any = self.weights.get(method) or self.only.get(method) or self.settings
        base = self.base.get(method)
        own = None
        if base is not None and base.task is None and method in PRESETS and PRESETS[method].base == "elsewhere":
            own = base.setting
        return [setting for setting in self.settings if setting in chosen and setting != own]

    def methods_of(self, setting: str) -> list[str]:
        """The methods that run in a setting."""
        return [method for method in self.methods if setting in self.settings_of(method)]

    def physics_of(self, setting: str) -> PhysicsConfig:
        """The operator of a setting."""
        merged = self.merged_physics(setting)
        if "name" not in merged:
            raise LorunError(f"`physics.name` is missing. Choices: {', '.join(OPERATORS.names())}")
        physics: PhysicsConfig = OPERATORS.get(str(merged["name"])).model_validate(merged)
        return physics

    def merged_physics(self, setting: str) -> dict[str, Any]:
        """What a setting says of its operator, not checked yet."""
        return {**self.physics, **self.settings[setting]}

    @cached_property
    def methods(self) -> list[str]:
        """Strategies and baselines, by name."""
        return [*self.strategies, *map(plugins.name_of, self.baselines)]

    @cached_property
    def located(self) -> dict[str, Located]:
        """Where each baseline is, by name."""
        found = {one.name: one for one in map(locate, self.baselines)}
        for name in found:
            plugins.check_name(name, reserved=PRESETS)
        return found

    def reference_of(self, baseline: str) -> str:
        """What finds the code of a baseline of the task, see `lorun.plugins`."""
        return self.located[baseline].reference


class Profile(Section):
    """A whole benchmark."""

    profile: str
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    tasks: dict[str, TaskConfig] = Field(min_length=1)

    @field_validator("tasks", mode="before")
    @classmethod
    def _leave_out_null(cls, tasks: Any) -> Any:
        """A profile that extends another leaves out one of its tasks by null."""
        return {name: task for name, task in tasks.items() if task is not None} if isinstance(tasks, dict) else tasks

    @model_validator(mode="after")
    def _check_bases(self) -> Self:
        for name, task in self.tasks.items():
            for method in task.base:
                try:
                    self._check_base(name, task, method)
                except LorunError as error:
                    raise ValueError(f"task `{name}`: `base` of `{method}`: {error}") from error
        return self

    def _check_base(self, name: str, task: TaskConfig, method: str) -> None:
        reference = task.base[method]
        place = reference.task or name
        other = _named(self.tasks, place, "task")
        _named(other.settings, reference.setting, "setting")
        if reference.method != PRETRAIN and reference.method not in other.methods_of(reference.setting):
            raise UnknownName("method", reference.method, [PRETRAIN, *other.methods_of(reference.setting)])
        if reference.method == PRETRAIN:
            other._check_phase1(method)
        if other.data.channels != task.data.channels:
            raise LorunError(f"{place} has images of {other.data.channels} channels, {name} of {task.data.channels}")
        if method not in PRESETS:
            return
        if other.denoiser != task.denoiser:
            raise LorunError(f"{place} has the denoiser {other.denoiser!r}, {name} {task.denoiser!r}")
        theirs = other.physics_of(reference.setting).noise_level_input
        for setting in task.settings_of(method):
            if task.physics_of(setting).noise_level_input != theirs:
                raise LorunError(
                    f"`noise_map` is {str(theirs).lower()} in the setting {reference.setting!r} of {place}, and not so "
                    f"in {setting!r} of {name}"
                )

    def check_options(self) -> None:
        """Raise LorunError where the options of a baseline are invalid; this imports the baseline."""
        for task in self.tasks.values():
            for method, options in task.options.items():
                plugins.check_options(task.reference_of(method), options)

    def experiments(self) -> Iterator[Experiment]:
        """Every experiment that has a row, in the order of the configuration (pretraining has none)."""
        for task_name, task in self.tasks.items():
            for setting in task.settings:
                for method in task.methods_of(setting):
                    # Released weights do not depend on the seed.
                    for seed in self.seeds[:1] if method in task.weights else self.seeds:
                        yield self.experiment(task_name, setting, method, seed)

    def accounted(self) -> Iterator[Experiment]:
        """The experiments with the first seed: an account is the same for all seeds."""
        return (experiment for experiment in self.experiments() if experiment.seed == self.seeds[0])

    def datasets(self) -> list[str]:
        """Every dataset that a task uses."""
        return sorted({name for experiment in self.experiments() for name in experiment.datasets})

    def experiment(self, task: str, setting: str, method: str, seed: int) -> Experiment:
        """Resolve one experiment.

        Raises:
            UnknownName: the profile has no such task, setting or method.
            LorunError: the method does not run in this setting.
        """
        chosen: TaskConfig = _named(self.tasks, task, "task")
        _named(chosen.settings, setting, "setting")
        if method != PRETRAIN and method not in chosen.methods:
            raise UnknownName("method", method, [*chosen.methods, PRETRAIN])
        if method != PRETRAIN and setting not in chosen.settings_of(method):
            runs_in = ", ".join(chosen.settings_of(method))
            raise LorunError(f"{task}: the method {method!r} does not run in {setting!r}, but in {runs_in}")
        return self.resolve(task, setting, method, seed)

    def resolve(self, task: str, setting: str, method: str, seed: int) -> Experiment:
        """As `experiment`, also for a strategy that the task does not list."""
        chosen = self.tasks[task]
        physics = chosen.physics_of(setting)
        return Experiment(
            task=task,
            setting=setting,
            seed=seed,
            channels=chosen.data.channels,
            physics=physics,
            fit_on=chosen.data.train if physics.fitted else None,
            spec=self._spec(task, setting, method, seed),
            test=chosen.data.test,
            evaluation=chosen.evaluation,
            accounting=chosen.accounting,
        )

    def _spec(self, name: str, setting: str, method: str, seed: int) -> Spec:
        task = self.tasks[name]
        if method in PRESETS:
            preset = PRESETS[method]
            base = self._base(name, setting, method, seed)
            training, data = _trained(task, method, preset)
            return preset.specify(task.denoiser, task.unfolding, task.lora, base, training, data)
        place = {**task.located[method].fields, "options": task.options.get(method, {})}
        if method in task.weights:
            return Released(**place, weights=task.weights[method][setting])
        if not task._is_trained(method):
            return Untrained(**place, base=self._base(name, setting, method, seed))
        training, data = _trained(task, method)
        return Trained(**place, training=training, data=data)

    def _base(self, name: str, setting: str, method: str, seed: int) -> Experiment | None:
        """The run that a method starts from."""
        reference = self.tasks[name].base.get(method)
        if reference is not None:
            return self.resolve(reference.task or name, reference.setting, reference.method, seed)
        if method in PRESETS and PRESETS[method].base == "own":
            return self.resolve(name, setting, PRETRAIN, seed)
        return None


def _trained(task: TaskConfig, method: str, preset: Preset | None = None) -> tuple[Any, TrainingData]:
    """The training of a method, and its data. Phase 1 is part of the steps of what starts from a base."""
    data, training = task.data, task.training
    assert training is not None
    assert data.train is not None
    assert data.validation is not None
    first_step, last_step = 0, training.steps
    if preset is not None and preset.pretrains:
        last_step = training.phase1_steps or 0
    elif preset is not None and preset.base != "none":
        first_step = training.phase1_steps or 0
    rate = method if preset is None or preset.rate is None else preset.rate
    return (
        training.resolve(rate, first_step=first_step, last_step=last_step),
        TrainingData(train=data.train, validation=data.validation, mosaic=data.mosaic),
    )


def load_profile(path: Path | str, task: str | None = None) -> Profile:
    """Read a profile; `extends: other.yaml` starts from another file in the same folder and overrides its keys. A task
    that is null is left out.

    Args:
        task: read this task alone, with the tasks that its bases are trained in: a run then loads, and records, the
            code of its own operators.

    Raises:
        LorunError: one line with the file, the key, its value, and the nearest known key or the choices.
    """
    path = Path(path)
    content = _read(path)
    tasks = content.get("tasks")
    if task is not None and isinstance(tasks, dict) and tasks.get(task) is not None:
        needed = _with_bases(tasks, task)
        content = {**content, "tasks": {name: entry for name, entry in tasks.items() if name in needed}}
    try:
        profile = Profile.model_validate(content)
        if task is None:
            profile.check_options()
    except ValidationError as error:
        raise LorunError(f"{path}: {explain(error, field_names(Profile))}") from error
    except LorunError as error:
        raise LorunError(f"{path}: {error}") from error
    return profile


def profile_schema() -> dict[str, Any]:
    """The JSON schema of profiles."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Profile.model_json_schema()}


def _with_bases(tasks: Mapping[str, Any], task: str) -> set[str]:
    """A task and those that its bases are trained in, in content that is not checked yet."""
    found, waiting = set(), [task]
    while waiting:
        name = waiting.pop()
        entry = tasks.get(name)
        if name in found or not isinstance(entry, dict):
            continue
        found.add(name)
        bases = entry.get("base")
        for base in bases.values() if isinstance(bases, dict) else ():
            if isinstance(base, dict) and isinstance(base.get("task"), str):
                waiting.append(base["task"])
    return found


def _read(path: Path, children: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path in children:
        raise LorunError(f"{path}: extends itself, by way of {', '.join(map(str, children))}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = sorted(str(other) for other in path.parent.glob("*.yaml"))
        raise UnknownName("profile", str(path), known) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LorunError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise LorunError(f"{path}: a profile is a mapping of keys, not {type(content).__name__}")
    parent = content.pop("extends", None)
    if parent is None:
        return content
    if not isinstance(parent, str):
        raise LorunError(f"{path}: `extends` (={parent!r}) must be the name of a file in {path.parent}")
    return _overlay(_read(path.parent / parent, (*children, path)), content)


def _overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _overlay(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _named(choices: Mapping[str, Any], name: str, kind: str) -> Any:
    if name not in choices:
        raise UnknownName(kind, name, choices)
    return choices[name]
