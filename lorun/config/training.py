"""How the weights of one run are learned."""

from typing import ClassVar, Literal, Self

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
    patch: int = Field(64, ge=1, description="side of a patch, pixels; its height if it has another width")
    patch_width: int | None = Field(
        None,
        ge=1,
        description="of a patch; default: its height. Wide patches suit operators that disperse along the width",
    )
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

    @property
    def patch_size(self) -> tuple[int, int]:
        """Height and width of a patch, pixels."""
        return self.patch, self.patch_width or self.patch

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
        one_length(self.steps, self.budget)
        return self


def one_length(steps: int | None, budget: float | None) -> None:
    """Raises ValueError unless one of the two is given."""
    if (steps is None) == (budget is None):
        raise ValueError("give either `budget` (counted FLOPs) or `steps`")
