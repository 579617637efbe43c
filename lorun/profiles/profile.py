"""A whole profile, and the way from its tasks to experiments."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, model_validator

from lorun.config import Section
from lorun.config.section import Name, NoTwo
from lorun.errors import LorunError, one_of
from lorun.methods import PRETRAININGS, Experiment, Released, Strategy, Trained, Untrained
from lorun.methods.experiment import Spec
from lorun.methods.shipped import read_shipped
from lorun.methods.strategies import Preset
from lorun.profiles.task import TaskConfig
from lorun.profiles.training import Tuning
from lorun.profiles.trials import Trial

TUNING_SEED = 0
"""Seed of the short trainings that choose learning rates."""


class Profile(Section):
    """A whole benchmark."""

    profile: Name
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], NoTwo] = Field(min_length=1)
    tasks: dict[Name, TaskConfig] = Field(min_length=1)
    _trials: tuple[Trial, ...] = ()
    _choices: dict[tuple[str, str], float | None] = PrivateAttr(default_factory=dict)

    def experiments(self) -> Iterator[Experiment]:
        """Every experiment that has a row, in the order of the configuration (pretraining has none)."""
        for task_name, task in self.tasks.items():
            for setting in task.settings:
                for method in task.methods_of(setting):
                    # Released weights do not depend on the seed.
                    for seed in self.seeds[: 1 if method in task.weights else task.seeds.get(setting)]:
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
        if setting not in (settings := chosen.settings_of(method)):
            raise LorunError(f"{task}: the method {method!r} does not run in {setting!r}, but in {', '.join(settings)}")
        return self.resolve(task, setting, method, seed)

    def trial(self, task: str, method: str, value: float, whole: bool = False) -> Experiment:
        """A short, or a whole, training of a method with a value of what is tuned, see `TaskConfig.tuned_parameter`."""
        chosen, tuning = self.tasks[task], self._tuning(task)
        setting = next(one for one in chosen.settings_of(method) if chosen.trains_in(method, one) == one)
        return self.resolve(task, setting, method, TUNING_SEED, value, 1.0 if whole else tuning.share)

    def finalists(self, task: str, method: str, best: float) -> list[float]:
        """The values that are tried in whole trainings: the best of the short ones and the next lower ones."""
        grid, count = self.grid(task, method), self._tuning(task).finalists
        place = grid.index(best)
        return grid[max(0, place + 1 - count) : place + 1] if count > 1 else []

    def grid(self, task: str, method: str) -> list[float]:
        """The values among which what is tuned of a method is chosen."""
        values: list[float] = getattr(self._tuning(task), f"{self.tasks[task].tuned_parameter(method)}s")
        return values

    def _tuning(self, task: str) -> Tuning:
        tuning = self.tasks[task].tuning
        assert tuning is not None
        return tuning

    def to_tune(self) -> list[tuple[str, str]]:
        """The task and name of each method that is tuned, the pretrainings of bases first."""
        found: dict[tuple[str, str], None] = {}

        def add(experiment: Experiment) -> None:
            if experiment.base is not None:
                add(experiment.base)
            if experiment.training is not None and self.tasks[experiment.task].tuning is not None:
                found[experiment.task, experiment.method] = None

        for experiment in self.experiments():
            add(experiment)
        return list(found)

    def untuned(self) -> list[tuple[str, str]]:
        """Those of `to_tune` whose learning rate is not chosen yet, or was chosen for another configuration."""
        return [place for place in self.to_tune() if self.chosen(*place) is None]

    def chosen(self, task: str, method: str) -> float | None:
        """The value chosen for what is tuned of a method; None where nothing is tuned, or not yet."""
        if self.tasks[task].tuning is None:
            return None
        if (task, method) not in self._choices:
            tried = [one for one in self._trials if (one.task, one.method) == (task, method)]
            complete = [one.value for one in tried if not one.whole] == self.grid(task, method)
            marked = [one for one in tried if one.chosen and complete]
            valid = [one.value for one in marked if self.trial(task, method, one.value, one.whole).key == one.run]
            self._choices[task, method] = valid[0] if valid else None
        return self._choices[task, method]

    def check_tuned(self, task: str, method: str) -> None:
        """Raise LorunError where a method is to be tuned, and is not."""
        if self.tasks[task].tuning and self.chosen(task, method) is None and (task, method) in self.to_tune():
            raise LorunError(
                f"{task}: {method!r} is not tuned, or was tuned for another configuration: run `lorun tune` for this "
                f"profile ({self.profile}), or `make reproduce`, which does"
            )

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The trials of the methods that are tuned."""
        tuned = self.to_tune()
        return tuple(one for one in self._trials if (one.task, one.method) in tuned)

    def use_trials(self, trials: Sequence[Trial]) -> None:
        """Take learning rates from the trials that were chosen."""
        self._trials = tuple(trials)
        self._choices.clear()

    def resolve(
        self, task: str, setting: str, method: str, seed: int, value: float | None = None, length: float = 1.0
    ) -> Experiment:
        """As `experiment`, also for a strategy that the task does not list. `value`, of what is tuned, and `length`, a
        share of a whole training, are those of a trial."""
        chosen = self.tasks[task]
        physics = chosen.physics_of(setting)
        trained_in = chosen.trains_in(method, setting)
        trained_as = None if trained_in == setting else self.resolve(task, trained_in, method, seed, value, length)
        return Experiment(
            task=task,
            setting=setting,
            seed=seed,
            channels=chosen.data.channels,
            physics=physics,
            fit_on=chosen.data.train if physics.fitted else None,
            spec=self._spec(task, trained_in, method, seed, value, length),
            test=chosen.data.test,
            evaluation=chosen.evaluation,
            accounting=chosen.accounting,
            trained_as=trained_as,
        )

    def _spec(self, name: str, setting: str, method: str, seed: int, value: float | None, length: float) -> Spec:
        task = self.tasks[name]
        preset, reference = task.preset(method), task.base.get(method)
        plugin = {} if preset else {**task.located[method].fields, "options": task.options.get(method, {})}
        if method in task.weights:
            weights = task.weights[method][setting]
            return _shipped(method, preset, weights) if preset else Released(**plugin, weights=weights)
        base = None
        if reference is not None:
            base = self.resolve(reference.task or name, reference.setting, reference.method, seed)
        elif preset is not None and preset.own_base is not None:
            base = self.resolve(name, setting, preset.own_base, seed, length=length)
        training: dict[str, Any] = {"training": None, "data": None}
        if task.is_trained(method):
            training = task.training_of(method, self.chosen(name, method) if value is None else value, length)
        if preset is not None:
            return preset.specify(*task.network_of(method), base, **training)
        return Trained(**plugin, base=base, **training) if training["training"] else Untrained(**plugin, base=base)

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
        if method not in task.strategies:  # a baseline checks the network that it gets
            return
        if other.denoiser != task.denoiser:
            raise LorunError(f"{place} has the denoiser {other.denoiser!r}, {name} {task.denoiser!r}")
        physics = [other.physics_of(reference.setting), *map(task.physics_of, task.settings_of(method))]
        if len({one.noise_level_input for one in physics}) > 1:
            raise LorunError(f"`noise_map` differs between {reference.setting!r} of {place} and the settings of {name}")


def _shipped(method: str, preset: Preset, folder: Path) -> Strategy:
    """A strategy with the weights of a model, which gives its sizes. Raises LorunError for another strategy's model."""
    model = read_shipped(folder)
    spec = model.experiment.spec
    kind = preset.sharing, preset.adapted, preset.noise_map
    if not isinstance(spec, Strategy) or kind != (spec.sharing, bool(spec.adapters), spec.noise_level is not None):
        raise LorunError(f"{folder}: a model of the method {model.experiment.method!r}, not of {method!r}")
    untrained = {"base": None, "published": False, "training": None, "data": None}
    return spec.model_copy(update={"name": method, "weights": folder, "weights_sha256": model.sha256, **untrained})
