"""Data and training: what is learned from, and how."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lorun.config.methods import RATE_OF, Recompute
from lorun.config.section import Section


class DataConfig(Section):
    train: str = Field(description="dataset whose train split is learned from")
    validation: str = Field(description="dataset whose validation split watches the training")
    test: list[str] = Field(min_length=1, description="datasets whose test split is scored")
    channels: Literal[1, 3, 28] = Field(1, description="gray, RGB, or the 28 bands of a spectral cube")
    mosaic: bool = Field(
        False,
        exclude_if=lambda mosaic: (
            not mosaic
        ),  # absent, so that keys and hashes are those of before there was such a thing
        description="make half of each batch 2 x 2 mosaics of crops of half the side",
    )


class TrainingConfig(Section):
    steps: int = Field(ge=1, description="optimiser steps in all; LoRun's phase 1 is part of them")
    phase1_steps: int = Field(ge=1, description="LoRun: steps that pretrain the base as a one-stage network")
    batch: int = Field(16, ge=1, description="patches per step")
    patch: int = Field(64, ge=1, description="side of a patch, pixels")
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = Field(5e-4, gt=0)
    learning_rates: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="method -> its own, where the common one is not stable"
    )
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
        description="none: keep all activations of a step; stage: those of one stage at a time, for about a third more "
        "arithmetic and the same weights; auto: none where the predicted peak fits the memory, else stage",
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

    def for_method(self, method: str) -> Self:
        """With the method's own learning rate, if it has one; the final rate keeps its proportion."""
        own = self.learning_rates.get(RATE_OF.get(method, method), self.learning_rate)
        final = self.final_learning_rate * own / self.learning_rate
        return self.model_copy(update={"learning_rate": own, "final_learning_rate": final, "learning_rates": {}})

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if self.phase1_steps >= self.steps:
            raise ValueError(f"`phase1_steps` (={self.phase1_steps}) must be below `steps` (={self.steps})")
        return self

    @model_validator(mode="after")
    def _rates_are_chosen_once(self) -> Self:
        for method in self.learning_rates:
            if method in RATE_OF:
                raise ValueError(
                    f"`learning_rates` of `{method}`: it takes that of `{RATE_OF[method]}`, whose base it shares"
                )
        return self

    @model_validator(mode="after")
    def _budget_is_asked_for(self) -> Self:
        if self.memory_budget is not None and self.recompute != "auto":
            raise ValueError(
                f"`memory_budget` (={self.memory_budget:g}) goes with `recompute: auto`, not {self.recompute!r}"
            )
        return self

    @model_validator(mode="after")
    def _rate_falls(self) -> Self:
        if self.final_learning_rate > self.learning_rate:
            raise ValueError(
                f"`final_learning_rate` (={self.final_learning_rate:g}) must not be above `learning_rate` "
                f"(={self.learning_rate:g})"
            )
        return self
