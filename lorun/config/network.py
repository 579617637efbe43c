"""Unfolding and adapters."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from lorun.config.section import Section


class UnfoldingConfig(Section):
    """The stages of an unfolding network."""

    stages: int = Field(9, ge=1, le=100, description="K; block1 always has one")
    step_size: float = Field(1.0, gt=0, description="initial rho_k; 1 projects onto {x: Ax = y} for orthonormal Phi")
    noise_level: float = Field(0.1, gt=0, description="initial sigma_k where it is learned, in image units [0, 1]")
    gate: float | None = Field(
        None,
        ge=0,
        le=1,
        description="each stage is x = z + g_k (D(z) - z) with a learned gate g_k: 1 at first in the first stage, this "
        "value in the later ones, whose inputs the base was not trained on; null: no gates",
    )


AdapterLayout = Literal["peft", "loralib"]
Scaling = Literal["one", "alpha_over_r", "alpha_over_sqrt_r"]


class AdapterConfig(Section):
    """The adapters of each stage."""

    gamma: float = Field(10.0, gt=0, le=100, description="rank = ceil(min(in, out) * gamma / 100)")
    layout: AdapterLayout = Field(
        "peft",
        description="B A of a k x k convolution: (out x r)(r x in k^2), or (out k x r k)(r k x in k)",
    )
    scaling: Scaling = Field("one", description="the scale s of a change s BA: 1, alpha / r or alpha / sqrt(r)")
    alpha: float = Field(1.0, gt=0, description="alpha of the scaling")
    layers: str = Field(".*", description="adapted layers: a regular expression that matches their whole names")
    forward: Literal["composed", "ordinary"] = Field(
        "composed", description="conv(x, W + BA), or conv(x, W) + B(A(x)) as peft does; the same function"
    )

    @field_validator("layers")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern

    @model_validator(mode="after")
    def _alpha_is_used(self) -> Self:
        if self.scaling == "one" and self.alpha != 1:
            raise ValueError(f"`alpha` (={self.alpha:g}) needs a `scaling` of alpha_over_r or alpha_over_sqrt_r")
        return self
