"""A task of a profile: its data, its operator in several settings, its methods and its budget."""

import dataclasses
import re
from collections.abc import Collection, Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from lorun import plugins, renamed
from lorun.config import AccountingConfig, AdapterConfig, EvaluationConfig, Section, UnfoldingConfig
from lorun.config.section import Name, NoTwo, explain
from lorun.denoisers import DENOISERS, DenoiserConfig
from lorun.errors import LorunError, UnknownName
from lorun.methods import PRESETS, PRETRAIN, PRETRAININGS, STRATEGIES, Preset, TrainingData
from lorun.methods.baselines import Located, locate
from lorun.methods.experiment import Channels
from lorun.methods.strategies import ELSEWHERE, PUBLISHED
from lorun.physics import OPERATORS, PhysicsConfig
from lorun.profiles.training import TaskTraining, Tuning

StrategyName = Literal[STRATEGIES]  # type: ignore[valid-type]
BaseName = Literal["none", "published", *PRETRAININGS]  # type: ignore[valid-type]


class DataConfig(TrainingData):
    """The datasets of a task. Those of a training may be left out where nothing is trained."""

    train: Name | None = Field(None, description="dataset whose train split is learned from")  # type: ignore[assignment]
    validation: Name | None = Field(  # type: ignore[assignment]
        None, description="dataset whose validation split watches the training"
    )
    test: Annotated[list[Name], NoTwo] = Field(min_length=1, description="datasets whose test split is scored")
    channels: Channels = Field(1, description="gray, RGB, or the 28 bands of a spectral cube")


class BaseReference(Section):
    """Where the base of a method is trained."""

    task: str | None = Field(None, description="task of the profile; by default the method's own")
    setting: str = Field(description="setting of that task")
    method: str = Field(PRETRAIN, description="strategy of that task, or pretrain (phase 1 of lorun)")


class Variant(Section):
    """A strategy with other options than those of the task, as a method of its own."""

    strategy: StrategyName
    noise_map: Literal["learned"] | None = Field(
        None, description="each stage learns the noise level that its denoiser is told; so does the base"
    )
    base: BaseName | None = Field(None, description="what it starts from, instead of the strategy's own base")
    denoiser: DenoiserConfig | None = Field(None, description="another denoiser; no pretraining of the task fits it")
    unfolding: dict[str, Any] = Field(default_factory=dict, description="what differs from the task's `unfolding`")
    lora: dict[str, Any] = Field(default_factory=dict, description="what differs from the task's `lora`")

    def preset(self, name: str) -> Preset:
        """The strategy under the name of the variant."""
        preset = dataclasses.replace(PRESETS[self.strategy], name=name, rate=None)
        if self.base is not None:
            preset = dataclasses.replace(preset, base=None if self.base == "none" else self.base)
        if self.noise_map is not None:
            told = f"{preset.base}_sigma"
            preset = dataclasses.replace(preset, noise_map=True, base=told if told in PRESETS else preset.base)
        return preset


class Comparison(Section):
    """A figure that answers a question: a measure of some methods, as lines over an axis or as bars."""

    question: str = Field(min_length=1, description="its title")
    measure: Literal["score", "step_total", "parameters_network"] = Field(
        "score", description="the leading metric; or bytes of a training step, or parameters"
    )
    axis: str | None = Field(None, description="label of the axis of `lines`")
    lines: dict[str, dict[float, str]] = Field(
        default_factory=dict, description="label of a line -> place on the axis -> method"
    )
    levels: list[str] = Field(default_factory=list, description="methods drawn as horizontal lines")
    bars: list[str] = Field(default_factory=list, description="methods side by side, instead of `lines`")

    @property
    def methods(self) -> list[str]:
        """All methods that it shows, in order."""
        on_lines = [method for line in self.lines.values() for method in line.values()]
        return list(dict.fromkeys([*on_lines, *self.levels, *self.bars]))

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if bool(self.lines) == bool(self.bars):
            raise ValueError("give either `lines` or `bars`")
        if bool(self.lines) != (self.axis is not None):
            raise ValueError("`axis` is the label of the axis of `lines`")
        return self


class TaskConfig(Section):
    """One inverse problem: data, operator and its settings, network, methods, budget, measures."""

    data: DataConfig
    physics: dict[str, Any] = Field(description="what all settings share: `name` chooses the operator")
    settings: dict[Name, dict[str, Any]] = Field(min_length=1, description="name -> what it changes in the physics")
    denoiser: DenoiserConfig = Field(default_factory=lambda: DENOISERS.parse({"name": "unet"}))
    unfolding: UnfoldingConfig = UnfoldingConfig()
    lora: AdapterConfig = AdapterConfig()
    strategies: list[str] = Field(default_factory=list, description="names of strategies or variants")
    variants: dict[Name, Variant] = Field(default_factory=dict, description="name -> a strategy with other options")
    baselines: list[str] = Field(
        default_factory=list,
        description="folders of baselines/, paths of other folders (with a slash), or entry points of packages",
    )
    options: dict[str, dict[str, Any]] = Field(default_factory=dict, description="baseline -> its own options")
    base: dict[str, BaseReference] = Field(
        default_factory=dict,
        description="method -> where its pretrained network is trained; by default, lorun and frozen train their own",
    )
    weights: dict[str, dict[str, Path]] = Field(
        default_factory=dict,
        description="method -> setting -> released weights: a baseline's file, or for a strategy the folder of a "
        "model, which gives its sizes; the method is not trained, and runs in these settings",
    )
    only: dict[str, list[str]] = Field(
        default_factory=dict, description="method -> the settings that it runs in, instead of all"
    )
    seeds: dict[Name, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="setting -> how many of the profile's seeds it has; default: all",
    )
    train_in: Name | None = Field(
        None, description="the setting that trained methods are trained in, once for all settings; default: in each"
    )
    comparisons: dict[Name, Comparison] = Field(
        default_factory=dict, description="name -> a figure of the result set that compares methods"
    )
    training: TaskTraining | None = Field(None, description="may be left out where nothing is trained")
    evaluation: EvaluationConfig
    accounting: AccountingConfig = AccountingConfig()

    @model_validator(mode="before")
    @classmethod
    def _accept_old_names(cls, given: Any) -> Any:
        match given:
            case {"strategies": [*strategies]}:
                variants = given.get("variants") or {}
                old = {old: {"strategy": new} for old, new in renamed.STRATEGIES.items() if old in strategies}
                if old and isinstance(variants, dict):
                    return {**given, "variants": {**old, **variants}}
        return given

    @cached_property
    def methods(self) -> list[str]:
        """Strategies and baselines, by name."""
        return [*self.strategies, *map(plugins.name_of, self.baselines)]

    @cached_property
    def located(self) -> dict[str, Located]:
        """Where each baseline is, by name."""
        return {found.name: found for found in map(locate, self.baselines)}

    def preset(self, method: str) -> Preset | None:
        """The strategy behind the name of a method; None for a baseline."""
        variant = self.variants.get(method)
        return PRESETS.get(method) if variant is None else variant.preset(method)

    def network_of(self, method: str) -> tuple[DenoiserConfig, UnfoldingConfig, AdapterConfig]:
        """Denoiser, stages and adapters of a strategy."""
        variant = self.variants.get(method)
        if variant is None:
            return self.denoiser, self.unfolding, self.lora
        unfolding = UnfoldingConfig.model_validate({**self.unfolding.model_dump(), **variant.unfolding})
        lora = AdapterConfig.model_validate({**self.lora.model_dump(), **variant.lora})
        return variant.denoiser or self.denoiser, unfolding, lora

    def physics_of(self, setting: str) -> PhysicsConfig:
        """The operator of a setting."""
        return OPERATORS.parse({**self.physics, **self.settings[setting]})

    def settings_of(self, method: str) -> list[str]:
        """The settings that a method runs in."""
        chosen: Any = self.weights.get(method) or self.only.get(method) or self.settings
        base = self.base.get(method)
        excluded = base.setting if base is not None and base.task is None and self._transfers(method) else None
        return [setting for setting in self.settings if setting in chosen and setting != excluded]

    @property
    def tuning(self) -> Tuning | None:
        """How learning rates are chosen; None where they are given."""
        return None if self.training is None else self.training.tuning

    def trains_in(self, method: str, setting: str) -> str:
        """The setting whose training makes the weights of a method in a setting."""
        return setting if self.train_in is None or not self.is_trained(method) else self.train_in

    def methods_of(self, setting: str) -> list[str]:
        """The methods that run in a setting."""
        return [method for method in self.methods if setting in self.settings_of(method)]

    def is_trained(self, method: str) -> bool:
        """Whether a training makes the weights of a method."""
        preset = self.preset(method)
        trainable = self.located[method].trained if preset is None else preset.trained
        return trainable and method not in self.weights

    def training_of(self, method: str, value: float | None = None, length: float = 1.0) -> dict[str, Any]:
        """The fields `training` and `data` of a trained method.

        Args:
            method: strategy or baseline.
            value: of what is tuned, see `tuned_parameter`; by default the task's common one.
            length: share of a whole training.
        """
        training = self.training
        assert training is not None
        preset = self.preset(method)
        rates = {self.tuned_parameter(method): value}
        if value is None:
            rated = method if preset is None or preset.rate is None else preset.rate
            rates = {"learning_rate": training.learning_rates.get(rated)}
        return {
            "training": training.resolve(preset, **rates, length=length),
            "data": TrainingData(**self.data.model_dump(include={*TrainingData.model_fields})),
        }

    def tuned_parameter(self, method: str) -> str:
        """What of a trained method is tuned: its adapters' learning rate where they alone are trained, or all rates."""
        preset = self.preset(method)
        return "adapter_rate" if preset is not None and preset.tunes_adapters else "learning_rate"

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_settings()
        self._check_strategies()
        self._check_methods()
        self._check_training()
        if self.evaluation.points and self.data.channels != 28:
            raise ValueError(f"`evaluation.points` are of spectra, but `data.channels` is {self.data.channels}")
        return self

    def _check_settings(self) -> None:
        for setting in self.settings:
            try:
                physics = self.physics_of(setting)
                if physics.channels not in (None, self.data.channels):
                    raise ValueError(f"{physics.channels} bands, but `data.channels` is {self.data.channels}")
                if physics.fitted and self.data.train is None:
                    raise ValueError("its initial reconstruction is fitted: give `data.train`")
            except ValidationError as error:
                operator = OPERATORS.get({**self.physics, **self.settings[setting]}["name"])
                raise ValueError(f"setting `{setting}`: {explain(error, operator.model_fields)}") from error
            except (ValueError, LorunError) as error:
                raise ValueError(f"setting `{setting}`: {error}") from error

    def _check_strategies(self) -> None:
        for name in self.variants:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in PRESETS:
                raise ValueError(f"`variants`: {name!r} must be lower-case letters, digits and _, and not a strategy")
        _check_names("strategies", "strategy", self.strategies, [*STRATEGIES, *self.variants])
        for name in self.strategies:
            preset = self.preset(name)
            assert preset is not None
            try:
                denoiser, _, _ = self.network_of(name)
            except ValidationError as error:
                fields = {*UnfoldingConfig.model_fields, *AdapterConfig.model_fields}
                raise ValueError(f"`variants.{name}`: {explain(error, fields)}") from error
            if preset.base == PUBLISHED and getattr(denoiser, "weights", None) is None:
                raise ValueError(f"`{name}` starts from a published denoiser, but `denoiser.weights` names none")
            ready = name in self.base or name in self.weights
            base = None if ready or preset.own_base is None else PRESETS[preset.own_base]
            if base is None:
                continue
            if denoiser != self.denoiser:
                raise ValueError(f"`{name}` has another denoiser than `{base.name}`, which trains its base")
            if base.noise_map != preset.noise_map:
                raise ValueError(f"only one of `{name}` and its base `{base.name}` is told a noise level")
            if not base.pretrains and base.name not in self.strategies:
                raise ValueError(f"`{name}` is computed from `{base.name}`: add it to `strategies`")

    def _check_methods(self) -> None:
        try:
            self.located  # noqa: B018 - finds every one
        except LorunError as error:
            raise ValueError(f"`baselines`: {error}") from error
        if not self.methods:
            raise ValueError("give `strategies` or `baselines`")
        twice = sorted({method for method in self.methods if self.methods.count(method) > 1})
        if twice:
            raise ValueError(f"two methods have one name: {', '.join(twice)}")
        for name, comparison in self.comparisons.items():
            _check_names(f"comparisons.{name}", "method", comparison.methods, self.methods)
        for key in ("only", "weights", "base"):
            _check_names(key, "method", getattr(self, key), self.methods)
        _check_names("options", "baseline", self.options, self.located)
        _check_names("seeds", "setting", self.seeds, self.settings)
        for method, settings in {**self.only, **self.weights}.items():
            _check_names(f"weights` or `only` of `{method}", "setting", settings, self.settings)
        for method in filter(self._transfers, self.methods):
            if method not in self.base:
                raise ValueError(f"`{method}` needs a `base`: the setting whose pretrained network it starts from")
            if not self.settings_of(method):
                raise ValueError(f"`{method}` has no setting but that of its base (={self.base[method].setting!r})")

    def _check_training(self) -> None:
        if self.train_in is not None:
            _check_names("train_in", "setting", [self.train_in], self.settings)
            for method in filter(self.is_trained, self.methods):
                if self.train_in not in self.settings_of(method):
                    raise ValueError(f"`{method}` does not run in {self.train_in!r}, the setting of `train_in`")
            if any(self.physics_of(setting).learned for setting in self.settings):
                raise ValueError("`train_in` is for operators that are not learned")
        trained = [method for method in self.methods if self.is_trained(method)]
        if trained and self.training is None:
            raise ValueError(f"`training` is missing: {', '.join(trained)} are trained")
        if trained and None in (self.data.train, self.data.validation):
            raise ValueError(f"`data.train` and `data.validation` are needed: {', '.join(trained)} are trained")
        rates = [] if self.training is None else self.training.learning_rates
        # Also methods that are not in this task: a profile may take over the rates of the one that it extends.
        known = dict.fromkeys([*self.methods, *PRETRAININGS, *STRATEGIES, *self.variants, *plugins.names()])
        _check_names("learning_rates", "method", rates, known)
        for method in rates:
            if (preset := self.preset(method)) is not None and preset.rate is not None:
                raise ValueError(
                    f"`learning_rates` of `{method}`: it takes that of `{preset.rate}`, whose base it shares"
                )
        for method in self.methods:
            preset = self.preset(method)
            if preset is not None and preset.pretrainings and method not in self.base and self.is_trained(method):
                self.check_pretraining(method)
            for setting in () if method in trained or method in self.weights else self.settings_of(method):
                if self.physics_of(setting).learned:
                    raise ValueError(f"`{method}` trains nothing, but the operator of setting `{setting}` is learned")

    def check_pretraining(self, method: str) -> None:
        """Raise ValueError where the task does not say how long the base of `method` is pretrained."""
        if self.training is not None and (self.training.budget, self.training.phase1_steps) == (None, None):
            raise ValueError(f"`training.phase1_steps` is missing: `{method}` pretrains its base")

    def _transfers(self, method: str) -> bool:
        """Whether a method must start from the base of another setting or task."""
        preset = self.preset(method)
        return preset is not None and preset.base == ELSEWHERE


def _check_names(key: str, kind: str, names: Iterable[str], choices: Collection[str]) -> None:
    """Raise ValueError for the first name of a key of the task that is not one of the choices."""
    for name in names:
        if name not in choices:
            raise ValueError(f"`{key}`: {UnknownName(kind, name, choices)}")
