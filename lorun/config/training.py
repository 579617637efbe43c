"""Training: how weights are learned."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from lorun.config.section import Section

Recompute = Literal["none", "stage", "half_stage"]
"""Activations of a training step: keep all for the backward pass; or those of one stage, or of one stage of half of
the batch, and recompute the rest."""


class AdapterTraining(Section):
    """How adapters are trained where that differs from the other parameters. Their gradients are clipped apart."""

    rate: float = Field(1.0, gt=0, description="learning rate, as a multiple of the common one")
    warmup_steps: int | None = Field(None, ge=0, description="linear, from 0; default: that of the other parameters")
    clip_norm: float | None = Field(None, gt=0, description="limit of their gradient's norm; default: the common limit")


class TrainingSettings(Section):
    """What a training of a profile and the training of one run have in common."""

    batch: int = Field(16, ge=1, description="patches per step")
    patch: int = Field(64, ge=1, description="side of a patch, pixels")
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = Field(5e-4, gt=0)
    final_learning_rate: float = Field(5e-6, ge=0, description="reached at the last step, on a cosine")
    warmup_steps: int = Field(0, ge=0, description="linear, from 0")
    weight_decay: float = Field(0.0, ge=0)
    clip_norm: float | None = Field(1.0, gt=0, description="limit of the gradient's global norm")
    adapters: AdapterTraining = AdapterTraining()
    ema: float | None = Field(None, gt=0, lt=1, description="decay of the averaged weights that are scored")
    loss: Literal["mse", "l1", "rmse"] = Field("mse", description="rmse: the root of the batch's mean squared error")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 autocast on a GPU or CPU with instructions for it, else float32"
    )
    recompute: Recompute | Literal["auto"] = Field(
        "none",
        description="none: keep all activations of a step; stage: keep those of one stage at a time, for about a third "
        "more arithmetic and the same weights; half_stage: those of one stage of half of the batch, for the same "
        "weights except for rounding; auto: the first of these whose predicted peak fits the memory",
    )
    memory_budget: float | None = Field(
        None,
        gt=0,
        description="MB (10^6 bytes) for a step, with recompute: auto; on a GPU the default is 90 % of what is free",
    )
    checkpoint_every: int = Field(500, ge=1, description="steps")
    validate_every: int = Field(500, ge=1, description="steps")
    checkpoint_policy: Literal["last", "best_validation"] = "last"
    cpu_threads: int = Field(1, ge=1, description="threads of one training on a CPU; part of what is reproducible")

    @model_validator(mode="after")
    def _check_memory_budget(self) -> Self:
        if self.memory_budget is not None and self.recompute != "auto":
            raise ValueError(
                f"`memory_budget` (={self.memory_budget:g}) goes with `recompute: auto`, not {self.recompute!r}"
            )
        return self

    @model_validator(mode="after")
    def _check_rates(self) -> Self:
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"`final_learning_rate` (={self.final_learning_rate:g}) must not be above `learning_rate` "
                f"(={self.learning_rate:g})"
            )
        return self


class TrainingConfig(TrainingSettings):
    """The training of one run: a number of steps, or a budget from which its steps follow."""

    WITHOUT_EFFECT: ClassVar[set[str]] = {"checkpoint_every", "recompute", "memory_budget"}
    """Fields that do not change the trained weights."""

    SHAPES_STEP: ClassVar[set[str]] = {
        "optimizer",
        "weight_decay",
        "clip_norm",
        "ema",
        "loss",
        "precision",
        "recompute",
        "memory_budget",
    }
    """Fields that, with the sizes, decide the bytes of a training step."""

    steps: int | None = Field(None, ge=1, description="optimiser steps of this run")
    budget: float | None = Field(None, gt=0, description="counted FLOPs of this run; its steps are those that fit")
    inputs: Literal["initial", "mixtures"] = Field(
        "initial",
        description="what the first stage gets: the initial reconstruction, or, in half of the patches, a mixture of "
        "it with the truth and noise, like the inputs of later stages",
    )
    first_step: int = Field(
        0,
        ge=0,
        description="position in the stream of patches at which it starts: phase 2 goes on where phase 1 ended. With a "
        "budget it follows from the steps of the base",
    )

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        _one_length(self.steps, self.budget)
        return self


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
    setting: str | None = Field(None, description="setting of the task that it is done in; default: the first")

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
        _one_length(self.steps, self.budget)
        if self.phase1_steps is not None and self.steps is None:
            raise ValueError("`phase1_steps` goes with `steps`; with a budget it is `phase1_share`")
        if self.phase1_steps is not None and self.steps is not None and self.phase1_steps >= self.steps:
            raise ValueError(f"`phase1_steps` (={self.phase1_steps}) must be below `steps` (={self.steps})")
        if self.tuning is not None and self.learning_rates:
            raise ValueError("`learning_rates` are for trainings without `tuning`, which chooses them")
        return self

    def resolve(
        self,
        *,
        pretrainings: int = 0,
        is_pretraining: bool = False,
        learning_rate: float | None = None,
        adapter_rate: float | None = None,
        length: float = 1.0,
    ) -> TrainingConfig:
        """The training of one run.

        Args:
            pretrainings: how many pretrainings come before it.
            is_pretraining: whether it is one itself.
            learning_rate: instead of the common one; the final rate keeps its proportion.
            adapter_rate: instead of `adapters.rate`.
            length: of a short training, as a share of the whole one.
        """
        fields = self.model_dump(include={*TrainingSettings.model_fields})
        if learning_rate is not None:
            fields["learning_rate"] = learning_rate
            fields["final_learning_rate"] = self.final_learning_rate * learning_rate / self.learning_rate
        if adapter_rate is not None:
            fields["adapters"]["rate"] = adapter_rate
        if self.budget is not None:
            share = self.phase1_share if is_pretraining else 1 - pretrainings * self.phase1_share
            return TrainingConfig(**fields, budget=self.budget * share * length)
        assert self.steps is not None
        phase1 = self.phase1_steps or 0
        steps = phase1 if is_pretraining else self.steps - pretrainings * phase1
        first = pretrainings * max(1, round(phase1 * length))
        return TrainingConfig(**fields, steps=max(1, round(steps * length)), first_step=first)


def _one_length(steps: int | None, budget: float | None) -> None:
    if (steps is None) == (budget is None):
        raise ValueError("give either `budget` (counted FLOPs) or `steps`")
