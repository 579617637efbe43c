"""Unfolding and adapters."""

from typing import Literal

from pydantic import Field

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


class AdapterConfig(Section):
    """The adapters of each stage."""

    gamma: float = Field(10.0, gt=0, le=100, description="rank = ceil(min(in, out) * gamma / 100)")
    forward: Literal["composed", "ordinary"] = Field(
        "composed", description="conv(x, W + BA), or conv(x, W) + B(A(x)) as peft does; the same function"
    )
