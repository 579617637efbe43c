"""Training: how weights are learned."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from lorun.config.section import Section

Recompute = Literal["none", "stage"]
"""Activations of a training step: keep all for the backward pass, or keep those of one stage and recompute the rest."""


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
    ema: float | None = Field(None, gt=0, lt=1, description="decay of the averaged weights that are scored")
    loss: Literal["mse", "l1", "rmse"] = Field("mse", description="rmse: the root of the batch's mean squared error")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 autocast on a GPU that has it, float32 elsewhere"
    )
    recompute: Recompute | Literal["auto"] = Field(
        "none",
        description="none: keep all activations of a step; stage: keep those of one stage at a time, for about a third "
        "more arithmetic and the same weights; auto: none where the predicted peak fits the memory, else stage",
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
    """The training of one run."""

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

    steps: int = Field(ge=1, description="optimiser steps of this run")
    first_step: int = Field(
        0, ge=0, description="position in the stream of patches at which it starts: phase 2 goes on where phase 1 ended"
    )


class TaskTraining(TrainingSettings):
    """The budget of a task, from which each method's own training follows."""

    steps: int = Field(ge=1, description="optimiser steps in all; pretraining a base is part of them")
    phase1_steps: int | None = Field(
        None, ge=1, description="steps that pretrain the base of LoRun as a one-stage network"
    )
    learning_rates: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="method -> its own learning rate, where the common one is not stable"
    )

    @model_validator(mode="after")
    def _check_phases(self) -> Self:
        if self.phase1_steps is not None and self.phase1_steps >= self.steps:
            raise ValueError(f"`phase1_steps` (={self.phase1_steps}) must be below `steps` (={self.steps})")
        return self

    def resolve(self, method: str, *, first_step: int, last_step: int) -> TrainingConfig:
        """The training of one run, with the learning rate of `method`; the final rate keeps its proportion."""
        rate = self.learning_rates.get(method, self.learning_rate)
        settings: dict[str, Any] = self.model_dump(exclude={"steps", "phase1_steps", "learning_rates"})
        settings["learning_rate"] = rate
        settings["final_learning_rate"] = self.final_learning_rate * rate / self.learning_rate
        return TrainingConfig(**settings, steps=last_step - first_step, first_step=first_step)
