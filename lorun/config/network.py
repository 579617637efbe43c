"""Unfolding and adapters."""

from typing import Literal

from pydantic import Field

from lorun.config.section import Section


class UnfoldingConfig(Section):
    stages: int = Field(9, ge=1, le=100, description="K; block1 always has one")
    step_size: float = Field(1.0, gt=0, description="initial rho_k; 1 projects onto {x: Ax = y} for orthonormal Phi")
    noise_level: float = Field(0.1, gt=0, description="initial sigma_k of shared_sigma, in image units [0, 1]")


class SplittingConfig(Section):
    """Constants of deep_plug_and_play; see `lorun.splitting`. The defaults are those of DPIR, for deblurring."""

    iterations: int = Field(8, ge=1, le=1000, description="data steps, each followed by the denoiser")
    weight: float = Field(0.23, gt=0, description="lambda: of the prior against the data")
    first: float = Field(49.0, gt=0, le=255, description="noise level that the denoiser is told first, grey levels")
    last: float = Field(
        1.0, gt=0, le=255, description="and last, grey levels; that of the measurement, where that is above"
    )
    least_noise: float = Field(
        0.255, gt=0, le=255, description="noise of the measurement that is assumed where there is less, grey levels"
    )


class LoraConfig(Section):
    gamma: float = Field(10.0, gt=0, le=100, description="rank = ceil(min(in, out) * gamma / 100)")
    forward: Literal["composed", "ordinary"] = Field(
        "composed", description="conv(x, W + BA), or conv(x, W) + B(A(x)) as peft does; the same function"
    )
