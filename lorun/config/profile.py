"""Profiles and their tasks, and reading them from YAML."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from lorun.config.evaluation import AccountingConfig, EvaluationConfig
from lorun.config.experiment import BaseConfig, Experiment, outside_code
from lorun.config.methods import DEEP_PLUG_AND_PLAY, FROZEN, NAMED, PRETRAIN, TRANSFER, Named
from lorun.config.network import LoraConfig, SplittingConfig, UnfoldingConfig
from lorun.config.registry import field_names
from lorun.config.section import Section, explain
from lorun.config.training import DataConfig, TrainingConfig
from lorun.denoisers import DenoiserConfig
from lorun.errors import LorunError, UnknownName
from lorun.physics import OPERATORS, PhysicsConfig


class TaskConfig(Section):
    """One inverse problem: data, physics and its settings, network, methods, budget, measures."""

    data: DataConfig
    physics: dict[str, Any] = Field(description="keys that all settings share; `name` chooses the operator")
    settings: dict[str, dict[str, Any]] = Field(min_length=1, description="name -> what it changes in the physics")
    denoiser: DenoiserConfig = Field({"name": "unet"}, validate_default=True)
    unfolding: UnfoldingConfig = UnfoldingConfig()
    lora: LoraConfig = LoraConfig()
    base_setting: str | None = Field(
        None,
        description="setting whose pretrained denoiser is the base of frozen and of lorun_transfer, which runs in all "
        "others",
    )
    base_task: str | None = Field(
        None, description="task of the profile that base_setting is a setting of; by default it is one of this task"
    )
    denoiser_setting: str | None = Field(
        None,
        description="setting of base_task with `noise_map`, whose block1 is the denoiser of deep_plug_and_play",
    )
    splitting: SplittingConfig = SplittingConfig()
    strategies: list[Named] = Field(default_factory=list)
    baselines: list[str] = Field(
        default_factory=list,
        description="folders of baselines/, paths of other folders (with a slash), or entry points of packages",
    )
    weights: dict[str, dict[str, Path]] = Field(
        default_factory=dict,
        description="baseline -> setting -> file of released weights that it takes instead of a training; it then runs "
        "in these settings alone",
    )
    only: dict[str, list[str]] = Field(
        default_factory=dict, description="method -> the settings that it runs in, instead of all"
    )
    training: TrainingConfig
    evaluation: EvaluationConfig
    accounting: AccountingConfig = AccountingConfig()

    @model_validator(mode="after")
    def _settings_are_physics(self) -> Self:
        for setting in self.settings:
            try:
                physics = self.physics_of(setting)
            except ValidationError as error:
                raise ValueError(f"setting `{setting}`: {explain(error, _field_names())}") from error
            except LorunError as error:
                raise ValueError(f"setting `{setting}`: {error}") from error
            if physics.channels not in (None, self.data.channels):
                raise ValueError(
                    f"setting `{setting}`: {physics.channels} bands, but `data.channels` is {self.data.channels}"
                )
        return self

    @model_validator(mode="after")
    def _points_have_spectra(self) -> Self:
        if self.evaluation.points and self.data.channels != 28:
            raise ValueError(f"`evaluation.points` are of spectra, but `data.channels` is {self.data.channels}")
        return self

    @model_validator(mode="after")
    def _baselines_are_there(self) -> Self:
        from lorun.plugins.places import check_name, find, name_of  # baselines are built on the configuration

        for reference in self.baselines:
            try:
                find(reference)
                check_name(name_of(reference), (*NAMED, PRETRAIN))
            except LorunError as error:
                raise ValueError(f"`baselines`: {error}") from error
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        if not self.methods:
            raise ValueError("give `strategies` or `baselines`")
        for method, settings in {**self.only, **self.weights}.items():
            if method not in self.methods:
                raise ValueError(f"`weights` and `only` speak of the method `{method}`, which the task does not have")
            unknown = set(settings) - set(self.settings)
            if unknown:
                raise ValueError(f"`weights` and `only` of `{method}` name no settings of the task: {sorted(unknown)}")
        twice = sorted({method for method in self.methods if self.methods.count(method) > 1})
        if twice:
            raise ValueError(f"two methods have one name: {', '.join(twice)}")
        trained = set(self.weights) & set(self.strategies)
        if trained:
            raise ValueError(f"released weights are for baselines, not for {sorted(trained)}")
        return self

    @model_validator(mode="after")
    def _base_is_of_another_setting(self) -> Self:
        base = self.base_setting
        if base is None and TRANSFER in self.strategies:
            raise ValueError(f"the strategy `{TRANSFER}` needs a `base_setting`, whose base it takes")
        if base is None and self.denoiser_setting is None and self.base_task is not None:
            raise ValueError(f"`base_task` (={self.base_task!r}) needs a `base_setting`, one of that task")
        if base is not None and not {TRANSFER, FROZEN} & set(self.strategies):
            raise ValueError(f"`base_setting` (={base!r}) is for the strategies `{TRANSFER}` and `{FROZEN}`: give one")
        if base is None or self.base_task is not None:
            return self
        if base not in self.settings:
            raise ValueError(f"`base_setting` (={base!r}) is no setting of the task: {', '.join(self.settings)}")
        if TRANSFER not in self.strategies:
            return self
        if len(self.settings) == 1:
            raise ValueError(f"`{TRANSFER}` runs in the settings other than `base_setting` (={base!r}); there is none")
        if base in self.only.get(TRANSFER, []):
            raise ValueError(
                f"`only` of `{TRANSFER}` names `base_setting` (={base!r}), the one that it does not run in"
            )
        return self

    @model_validator(mode="after")
    def _denoiser_is_asked_for(self) -> Self:
        asked = DEEP_PLUG_AND_PLAY in self.strategies
        if asked and (self.base_task is None or self.denoiser_setting is None):
            raise ValueError(
                f"the strategy `{DEEP_PLUG_AND_PLAY}` needs a `base_task` and a `denoiser_setting` of that task, whose "
                "denoiser it takes"
            )
        said = {"denoiser_setting": self.denoiser_setting is not None, "splitting": self.splitting != SplittingConfig()}
        for part in (part for part, is_said in said.items() if is_said and not asked):
            raise ValueError(f"`{part}` is for the strategy `{DEEP_PLUG_AND_PLAY}`, which the task does not have")
        return self

    def methods_of(self, setting: str) -> list[str]:
        """The methods that run in a setting."""
        limited: dict[str, Any] = {**self.only, **self.weights}
        if setting == self.base_setting and self.base_task is None:
            limited[TRANSFER] = ()
        return [method for method in self.methods if setting in limited.get(method, self.settings)]

    def physics_of(self, setting: str) -> PhysicsConfig:
        if "name" not in self.physics:
            raise LorunError(f"`physics.name` is missing. Choices: {', '.join(OPERATORS.names())}")
        return OPERATORS.get(str(self.physics["name"])).model_validate({**self.physics, **self.settings[setting]})

    @property
    def methods(self) -> list[str]:
        from lorun.plugins.places import name_of

        return [*self.strategies, *map(name_of, self.baselines)]

    def reference_of(self, baseline: str) -> str:
        """What finds the code of a baseline of the task, see `lorun.plugins.places`."""
        return self.baselines[self.methods.index(baseline) - len(self.strategies)]


class Profile(Section):
    """A whole benchmark: `config/<profile>.yaml`."""

    profile: str
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    tasks: dict[str, TaskConfig] = Field(min_length=1)

    @field_validator("tasks", mode="before")
    @classmethod
    def _null_is_no_task(cls, tasks: Any) -> Any:
        """A profile that extends another leaves out a task of it by saying null."""
        return {name: task for name, task in tasks.items() if task is not None} if isinstance(tasks, dict) else tasks

    @model_validator(mode="after")
    def _bases_of_other_tasks_fit(self) -> Self:
        for name, task in self.tasks.items():
            if task.base_task is None:
                continue
            said = f"task `{name}`: `base_task` (={task.base_task!r})"
            others = [other for other in self.tasks if other != name]
            if task.base_task not in others:
                raise ValueError(f"{said} is no other task of the profile: {', '.join(others) or 'there is none'}")
            other = self.tasks[task.base_task]
            for part in ("base_setting", "denoiser_setting"):
                setting = getattr(task, part)
                if setting is None:
                    continue
                if setting not in other.settings:
                    raise ValueError(f"{said} has no setting `{part}` (={setting!r}): {', '.join(other.settings)}")
                told, wanted = other.physics_of(setting).noise_level_input, part == "denoiser_setting"
                if told != wanted:
                    raise ValueError(
                        f"{said}: the denoiser of `{part}` (={setting!r}) is{'' if told else ' not'} told the noise "
                        f"level; it must be one with `noise_map: {str(wanted).lower()}`"
                    )
            if task.denoiser_setting is not None and "block1" not in other.methods_of(task.denoiser_setting):
                raise ValueError(
                    f"{said} has no `block1` in `denoiser_setting` (={task.denoiser_setting!r}), whose denoiser "
                    f"`{DEEP_PLUG_AND_PLAY}` takes"
                )
            if other.data.channels != task.data.channels:
                raise ValueError(
                    f"{said} has images of {other.data.channels} channels, this task of {task.data.channels}"
                )
            if other.denoiser != task.denoiser:
                raise ValueError(f"{said} has the denoiser {_words(other.denoiser)}, this task {_words(task.denoiser)}")
        return self

    def experiments(self) -> Iterator[Experiment]:
        """Every experiment that has a row, in the order of the configuration (pretrainings not among them)."""
        for task_name, task in self.tasks.items():
            for setting in task.settings:
                for method in task.methods_of(setting):
                    # Released weights are what they are, whatever the seed.
                    for seed in self.seeds[:1] if method in task.weights else self.seeds:
                        yield self.experiment(task_name, setting, method, seed)

    def accounted(self) -> Iterator[Experiment]:
        """The experiments with the first seed: an account is the same for all seeds."""
        return (experiment for experiment in self.experiments() if experiment.seed == self.seeds[0])

    def datasets(self) -> list[str]:
        """Every dataset that a task uses."""
        return sorted({name for experiment in self.experiments() for name in experiment.datasets})

    def experiment(self, task: str, setting: str, method: str, seed: int) -> Experiment:
        """Resolve one experiment. Raises UnknownName where the profile has no such task, setting or method."""
        chosen = _named(self.tasks, task, "task")
        _named(chosen.settings, setting, "setting")
        if method != PRETRAIN and method not in chosen.methods:
            raise UnknownName("method", method, [*chosen.methods, PRETRAIN])
        if method != PRETRAIN and method not in chosen.methods_of(setting):
            runs_in = [name for name in chosen.settings if method in chosen.methods_of(name)]
            raise LorunError(f"{task}: the method {method!r} does not run in {setting!r}, but in {', '.join(runs_in)}")
        return Experiment(
            task=task,
            setting=setting,
            method=method,
            seed=seed,
            physics=chosen.physics_of(setting),
            training=chosen.training.for_method(method),
            weights=chosen.weights.get(method, {}).get(setting),
            base=self._base_of(chosen, setting, method),
            splitting=chosen.splitting if method == DEEP_PLUG_AND_PLAY else None,
            outside=None if method in (*chosen.strategies, PRETRAIN) else outside_code(chosen.reference_of(method)),
            **{
                part: getattr(chosen, part)
                for part in ("data", "denoiser", "unfolding", "lora", "evaluation", "accounting")
            },
        )

    def _base_of(self, task: TaskConfig, setting: str, method: str) -> BaseConfig | None:
        """Where the base of a method comes from that takes the one that the task names; None where it is that of the
        setting itself, or there is none."""
        if method not in (TRANSFER, FROZEN, DEEP_PLUG_AND_PLAY):
            return None
        base = task.denoiser_setting if method == DEEP_PLUG_AND_PLAY else task.base_setting
        if base is None or (base == setting and task.base_task is None):
            return None
        if task.base_task is None:
            return BaseConfig(setting=base, physics=task.physics_of(base))
        other = self.tasks[task.base_task]
        return BaseConfig(
            setting=base,
            physics=other.physics_of(base),
            task=task.base_task,
            data=other.data,
            unfolding=other.unfolding,
            training=other.training.for_method("block1" if method == DEEP_PLUG_AND_PLAY else PRETRAIN),
        )


def load_profile(path: Path | str) -> Profile:
    """Read a profile; `extends: other.yaml` starts from another file in the same folder and overrides its keys. A task
    that is null is left out.

    Raises LorunError with one line a mistake: the file, the key, its value, and the nearest known key or the choices.
    """
    path = Path(path)
    try:
        return Profile.model_validate(_read(path))
    except ValidationError as error:
        raise LorunError(f"{path}: {explain(error, _field_names())}") from error


def profile_schema() -> dict[str, Any]:
    """The JSON schema of profiles."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Profile.model_json_schema()}


def _field_names() -> set[str]:
    return field_names(Profile, *OPERATORS)


def _read(path: Path, children: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path in children:
        raise LorunError(f"{path}: extends itself, by way of {', '.join(map(str, children))}")
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = sorted(str(other) for other in path.parent.glob("*.yaml"))
        raise UnknownName("profile", str(path), known) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LorunError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(said, dict):
        raise LorunError(f"{path}: a profile is a mapping of keys, not {type(said).__name__}")
    parent = said.pop("extends", None)
    if parent is None:
        return said
    if not isinstance(parent, str):
        raise LorunError(f"{path}: `extends` (={parent!r}) must be the name of a file in {path.parent}")
    return _overlay(_read(path.parent / parent, (*children, path)), said)


def _overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _overlay(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _words(config: BaseModel) -> str:
    return " ".join(f"{name}={value}" for name, value in config)


def _named(choices: Mapping[str, Any], name: str, kind: str) -> Any:
    if name not in choices:
        raise UnknownName(kind, name, choices)
    return choices[name]
