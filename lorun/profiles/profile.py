"""A whole profile, and the way from its tasks to experiments."""

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import Field, model_validator

from lorun import plugins
from lorun.config import Section
from lorun.errors import LorunError, one_of
from lorun.methods import PRESETS, PRETRAININGS, Experiment, Released, Trained, Untrained
from lorun.methods.experiment import Spec
from lorun.profiles.task import TaskConfig


class Profile(Section):
    """A whole benchmark."""

    profile: str
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    tasks: dict[str, TaskConfig] = Field(min_length=1)

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
        chosen = self.tasks[one_of("task", task, self.tasks)]
        one_of("setting", setting, chosen.settings)
        one_of("method", method, [*chosen.methods, *PRETRAININGS])
        if method not in PRETRAININGS and setting not in (settings := chosen.settings_of(method)):
            raise LorunError(f"{task}: the method {method!r} does not run in {setting!r}, but in {', '.join(settings)}")
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
            base = self._base(name, setting, method, seed)
            return PRESETS[method].specify(task.denoiser, task.unfolding, task.lora, base, **task.training_of(method))
        place = {**task.located[method].fields, "options": task.options.get(method, {})}
        if method in task.weights:
            return Released(**place, weights=task.weights[method][setting])
        place["base"] = self._base(name, setting, method, seed)
        if not task.is_trained(method):
            return Untrained(**place)
        return Trained(**place, **task.training_of(method))

    def _base(self, name: str, setting: str, method: str, seed: int) -> Experiment | None:
        """The run that a method starts from."""
        reference = self.tasks[name].base.get(method)
        if reference is not None:
            return self.resolve(reference.task or name, reference.setting, reference.method, seed)
        if method in PRESETS and PRESETS[method].base == "own":
            return self.resolve(name, setting, PRESETS[method].pretraining, seed)
        return None

    def check_options(self) -> None:
        """Raise LorunError where the options of a baseline are invalid; this imports the baseline."""
        for task in self.tasks.values():
            for method, options in task.options.items():
                plugins.check_options(task.located[method].reference, options)

    @model_validator(mode="after")
    def _check_bases(self) -> Self:
        for name, task in self.tasks.items():
            for method in task.base:
                try:
                    self._check_base(name, task, method)
                except (LorunError, ValueError) as error:
                    raise ValueError(f"task `{name}`: `base` of `{method}`: {error}") from error
        return self

    def _check_base(self, name: str, task: TaskConfig, method: str) -> None:
        reference = task.base[method]
        place = reference.task or name
        other = self.tasks[one_of("task", place, self.tasks)]
        one_of("setting", reference.setting, other.settings)
        one_of("method", reference.method, [*PRETRAININGS, *other.methods_of(reference.setting)])
        if reference.method in PRETRAININGS:
            other.check_pretraining(method)
        if other.data.channels != task.data.channels:
            raise LorunError(f"{place} has images of {other.data.channels} channels, {name} of {task.data.channels}")
        if method not in PRESETS:  # a baseline checks the network that it gets
            return
        if other.denoiser != task.denoiser:
            raise LorunError(f"{place} has the denoiser {other.denoiser!r}, {name} {task.denoiser!r}")
        physics = [other.physics_of(reference.setting), *map(task.physics_of, task.settings_of(method))]
        if len({one.noise_level_input for one in physics}) > 1:
            raise LorunError(f"`noise_map` differs between {reference.setting!r} of {place} and the settings of {name}")
