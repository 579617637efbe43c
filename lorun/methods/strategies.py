"""Sharing strategies: unfolding networks whose stages share a denoiser or its weights.

`PRESETS` are those that profiles can name; docs/method.md shows them as a table. A new strategy is a new entry.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from lorun.config.network import AdapterConfig, UnfoldingConfig
from lorun.config.training import TrainingConfig
from lorun.denoisers import DenoiserConfig
from lorun.methods.base import Method, TrainingData
from lorun.physics import Operator
from lorun.unfolding import Sharing, UnfoldingNetwork

if TYPE_CHECKING:
    from lorun.methods.experiment import Experiment


class Strategy(Method):
    """K unfolded stages, see `lorun.unfolding`."""

    kind: Literal["strategy"] = "strategy"
    denoiser: DenoiserConfig
    stages: int = Field(ge=1, description="K")
    sharing: Sharing = "shared"
    step_size: float = Field(gt=0, description="initial rho_k")
    noise_level: float | None = Field(None, description="initial sigma_k where each stage learns its noise level")
    adapters: AdapterConfig | None = None
    frozen: bool = Field(False, description="train the step sizes alone")
    base: "Experiment | None" = Field(None, description="training of the one-stage network that it starts from")
    training: TrainingConfig
    data: TrainingData

    def build(self, physics: Operator, channels: int, noise_map: bool = False) -> UnfoldingNetwork:
        return UnfoldingNetwork(
            partial(self.denoiser.build, channels),
            self.stages,
            sharing=self.sharing,
            step_size=self.step_size,
            noise_level=self.noise_level,
            adapters=self.adapters,
            frozen=self.frozen,
            noise_map=noise_map,
        )


BaseRule = Literal["none", "own", "elsewhere"]


@dataclass(frozen=True)
class Preset:
    """A strategy that profiles can name.

    Attributes:
        name: in profiles and tables.
        one_stage: K is 1 whatever the profile says.
        sharing: one denoiser for all stages, or one per stage.
        learns_noise_level: each stage learns the noise level that its denoiser gets as an input map.
        adapted: one adapter per stage on a frozen denoiser.
        frozen: nothing but the step sizes is trained.
        base: "none"; "own": a base pretrained in the same setting, unless the profile's `base` names another one;
            "elsewhere": the profile's `base` must name one of another setting or task.
        rate: the strategy whose learning rate it takes, since they share a base.
        pretrains: takes the steps of phase 1 and is the base of others; it has no row of its own.
        pretraining: the one that trains the base where `base` is "own".
    """

    name: str
    one_stage: bool = False
    sharing: Sharing = "shared"
    learns_noise_level: bool = False
    adapted: bool = False
    frozen: bool = False
    base: BaseRule = "none"
    rate: str | None = None
    pretrains: bool = False
    pretraining: str = "pretrain"

    def specify(
        self,
        denoiser: DenoiserConfig,
        unfolding: UnfoldingConfig,
        adapters: AdapterConfig,
        base: "Experiment | None",
        training: TrainingConfig,
        data: TrainingData,
    ) -> Strategy:
        """The strategy with the sizes of a task."""
        return Strategy(
            name=self.name,
            denoiser=denoiser,
            stages=1 if self.one_stage else unfolding.stages,
            sharing=self.sharing,
            step_size=unfolding.step_size,
            noise_level=unfolding.noise_level if self.learns_noise_level else None,
            adapters=adapters if self.adapted else None,
            frozen=self.frozen,
            base=base,
            training=training,
            data=data,
        )


PRETRAIN = "pretrain"
"""Phase 1 of LoRun: the one-stage network that is the base of others."""

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("block1", one_stage=True),
        Preset("block_k", sharing="per_stage"),
        Preset("shared"),
        Preset("shared_sigma", learns_noise_level=True),
        Preset("lorun", adapted=True, base="own"),
        Preset("lorun_transfer", adapted=True, base="elsewhere", rate="lorun"),
        Preset("lorun_random", adapted=True),
        Preset("frozen", frozen=True, base="own", rate="lorun"),
        Preset(PRETRAIN, one_stage=True, rate="lorun", pretrains=True),
    )
}

STRATEGIES = tuple(name for name, preset in PRESETS.items() if not preset.pretrains)
"""The strategies that have rows."""

PRETRAININGS = tuple(name for name, preset in PRESETS.items() if preset.pretrains)
"""The strategies that train the bases of others."""
