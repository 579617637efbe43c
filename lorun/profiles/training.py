"""The training of a task: a length and learning rates that are fair to all methods; those of each run follow."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from lorun.config.section import Section
from lorun.config.training import TrainingConfig, TrainingSettings, one_length
from lorun.methods import Preset


class Tuning(Section):
    """How learning rates are chosen: a short training for each value of a grid, then whole trainings with the best of
    them and the next lower ones, judged on validation images. Short trainings alone favour rates that are too high.

    A method whose adapters alone are trained is tuned in `adapter_rates`, with the common learning rate; all others in
    `learning_rates`. Both grids have the same number of values, so that tuning costs every method the same.
    """

    learning_rates: list[Annotated[float, Field(gt=0)]] = Field(
        [3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1], min_length=3
    )
    adapter_rates: list[Annotated[float, Field(gt=0)]] = Field([0.03, 0.1, 0.3, 1, 3, 10, 30, 100], min_length=3)
    share: float = Field(0.2, gt=0, le=1, description="length of each short training, as a share of a whole one")
    finalists: int = Field(2, ge=1, description="values that are tried in whole trainings; 1: the short ones decide")

    @model_validator(mode="after")
    def _check_grids(self) -> Self:
        if len(self.learning_rates) != len(self.adapter_rates):
            raise ValueError(
                f"{len(self.learning_rates)} `learning_rates` and {len(self.adapter_rates)} `adapter_rates`: give the "
                "same number, so that tuning costs every method the same"
            )
        for name in ("learning_rates", "adapter_rates"):
            values = getattr(self, name)
            if values != sorted(set(values)):
                raise ValueError(f"`{name}` (={values}) must increase")
        return self


class TaskTraining(TrainingSettings):
    """The training of a task's methods, from which each method's own follows."""

    budget: float | None = Field(
        None, gt=0, description="FLOPs that each method may spend, counted; pretraining a base is part of it"
    )
    steps: int | None = Field(
        None, ge=1, description="instead of a budget: optimiser steps of each method; pretraining is part of them"
    )
    phase1_share: float = Field(
        0.3, gt=0, lt=0.5, description="share of the budget that pretrains the base of LoRun; so for each pretraining"
    )
    phase1_steps: int | None = Field(None, ge=1, description="with `steps`: those that pretrain the base of LoRun")
    learning_rates: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="method -> its own learning rate, where nothing is tuned"
    )
    tuning: Tuning | None = Field(None, description="choose each method's learning rate by rule")

    @model_validator(mode="after")
    def _check_phases(self) -> Self:
        one_length(self.steps, self.budget)
        if self.phase1_steps is not None and self.steps is None:
            raise ValueError("`phase1_steps` goes with `steps`; with a budget it is `phase1_share`")
        if self.phase1_steps is not None and self.steps is not None and self.phase1_steps >= self.steps:
            raise ValueError(f"`phase1_steps` (={self.phase1_steps}) must be below `steps` (={self.steps})")
        shortest = self.phase1_steps or self.steps
        for name, warmup in (("", self.warmup_steps), ("adapters.", self.adapters.warmup_steps)):
            if warmup is not None and shortest is not None and warmup > shortest:
                raise ValueError(f"`{name}warmup_steps` (={warmup}) are more than the {shortest} steps of a training")
        if self.tuning is not None and self.learning_rates:
            raise ValueError("`learning_rates` are for trainings without `tuning`, which chooses them")
        return self

    def resolve(
        self,
        preset: Preset | None,
        *,
        learning_rate: float | None = None,
        adapter_rate: float | None = None,
        length: float = 1.0,
    ) -> TrainingConfig:
        """The training of one run.

        Args:
            preset: its strategy; None for a baseline.
            learning_rate: instead of the common one; the final rate keeps its proportion.
            adapter_rate: instead of `adapters.rate`.
            length: of a short training, as a share of the whole one.
        """
        fields = self.model_dump(include={*TrainingSettings.model_fields})
        if preset is not None and preset.mixed:
            fields["inputs"] = "mixtures"
        pretrains, pretrainings = (preset.pretrains, preset.pretrainings) if preset is not None else (False, 0)
        if learning_rate is not None:
            fields["learning_rate"] = learning_rate
            fields["final_learning_rate"] = self.final_learning_rate * learning_rate / self.learning_rate
        if adapter_rate is not None:
            fields["adapters"]["rate"] = adapter_rate
        if self.budget is not None:
            share = self.phase1_share if pretrains else 1 - pretrainings * self.phase1_share
            return TrainingConfig(**fields, budget=self.budget * share * length)
        assert self.steps is not None
        phase1 = self.phase1_steps or 0
        steps = phase1 if pretrains else self.steps - pretrainings * phase1
        first = pretrainings * max(1, round(phase1 * length))
        return TrainingConfig(**fields, steps=max(1, round(steps * length)), first_step=first)
