"""Sharing strategies: unfolding networks whose stages share a denoiser or its weights.

`PRESETS` are those that profiles can name; docs/method.md shows them as a table. A new strategy is a new entry.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
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
    gate: float | None = Field(None, description="initial gate of the later stages, if there are gates")
    adapters: AdapterConfig | None = None
    joint: bool = Field(False, description="train the denoiser together with its adapters")
    frozen: bool = Field(False, description="train the step sizes alone")
    published: bool = Field(False, description="start from the published weights that the denoiser names")
    base: "Experiment | None" = Field(None, description="training of the network that it starts from")
    decompose: bool = Field(False, description="base: the mean of that network's K denoisers; adapters: truncated SVDs")
    training: TrainingConfig | None = Field(None, description="null: nothing is trained")
    data: TrainingData | None = None
    weights: Path | None = Field(None, description="folder of a model, see `lorun.models`, whose weights it has")
    weights_sha256: str | None = Field(None, description="of that model's weights")

    def build(self, physics: Operator, channels: int, noise_map: bool = False) -> UnfoldingNetwork:
        network = UnfoldingNetwork(
            partial(self.denoiser.build, channels),
            self.stages,
            sharing=self.sharing,
            step_size=self.step_size,
            noise_level=self.noise_level,
            gate=self.gate,
            adapters=self.adapters,
            joint=self.joint,
            frozen=self.frozen,
            noise_map=noise_map,
        )
        return network if self.training is not None else network.requires_grad_(False)


Origin = Literal["paper", "ours"]

ELSEWHERE = "elsewhere"
PUBLISHED = "published"
"""Bases that no training of the same setting makes."""


@dataclass(frozen=True)
class Preset:
    """A strategy that profiles can name.

    Attributes:
        name: in profiles and tables.
        about: what it is, in one line.
        origin: whether the LoRun paper has it, or this suite adds it.
        one_stage: K is 1 whatever the profile says.
        sharing: one denoiser for all stages, or one per stage.
        noise_map: each stage learns the noise level that its denoiser gets as an input map.
        adapted: one adapter per stage, on a denoiser that is frozen unless `joint`.
        joint: the denoiser is trained together with its adapters.
        frozen: nothing but the step sizes is trained.
        trained: whether anything is.
        base: what it starts from: another strategy, by name, trained in the same setting; "elsewhere": the profile's
            `base` must name one of another setting or task; "published": weights that the denoiser names; None: random
            weights. The profile's `base` replaces another strategy.
        decompose: it starts from the truncated SVD of its base's K denoisers.
        mixed: it is trained on mixtures of the initial reconstruction, the truth and noise.
        rate: the strategy whose learning rate it takes where nothing is tuned, since they share a base.
        pretrains: takes the length of phase 1 and is the base of others; it has no row of its own.
    """

    name: str
    about: str
    origin: Origin = "ours"
    one_stage: bool = False
    sharing: Sharing = "shared"
    noise_map: bool = False
    adapted: bool = False
    joint: bool = False
    frozen: bool = False
    trained: bool = True
    base: str | None = None
    decompose: bool = False
    mixed: bool = False
    rate: str | None = None
    pretrains: bool = False

    @property
    def own_base(self) -> str | None:
        """The strategy that trains its base in the same setting, if any."""
        return None if self.base in (ELSEWHERE, PUBLISHED) else self.base

    @property
    def pretrainings(self) -> int:
        """How many pretrainings come before its own training; one that is done elsewhere takes its share too."""
        if self.own_base is None:
            return 1 if self.base == ELSEWHERE else 0
        before = PRESETS[self.own_base]
        return before.pretrainings + before.pretrains

    @property
    def tunes_adapters(self) -> bool:
        """Whether its adapters' learning rate is tuned, not the common one."""
        return self.adapted and not self.joint

    def specify(
        self,
        denoiser: DenoiserConfig,
        unfolding: UnfoldingConfig,
        adapters: AdapterConfig,
        base: "Experiment | None",
        training: TrainingConfig | None,
        data: TrainingData | None,
    ) -> Strategy:
        """The strategy with the sizes of a task."""
        stages = 1 if self.one_stage else unfolding.stages
        return Strategy(
            name=self.name,
            denoiser=denoiser,
            stages=stages,
            sharing=self.sharing,
            step_size=unfolding.step_size,
            noise_level=unfolding.noise_level if self.noise_map else None,
            gate=unfolding.gate if stages > 1 else None,
            adapters=adapters if self.adapted else None,
            joint=self.joint,
            frozen=self.frozen,
            published=self.base == PUBLISHED,
            base=base,
            decompose=self.decompose,
            training=training if self.trained else None,
            data=data if self.trained else None,
        )


PRETRAIN = "pretrain"
"""Phase 1 of LoRun: the one-stage network that is the base of others."""

PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("block1", "one stage", "paper", one_stage=True),
        Preset("block_k", "a denoiser for each stage", "paper", sharing="per_stage"),
        Preset("shared", "one denoiser for all stages"),
        Preset("shared_sigma", "one denoiser for all stages, told a learned noise level", noise_map=True),
        Preset("lorun", "an adapter per stage on a frozen one-stage base", "paper", adapted=True, base=PRETRAIN),
        Preset(
            "lorun_sigma",
            "lorun, told a learned noise level",
            noise_map=True,
            adapted=True,
            base="pretrain_sigma",
        ),
        Preset("lorun_shared", "lorun on a base of K stages", adapted=True, base="pretrain_shared"),
        Preset(
            "lorun_shared_sigma",
            "lorun_sigma on a base of K stages",
            noise_map=True,
            adapted=True,
            base="pretrain_shared_sigma",
        ),
        Preset("lorun_mixed", "lorun on a base that was trained on mixtures", adapted=True, base="pretrain_mixed"),
        Preset(
            "lorun_denoiser",
            "an adapter per stage on a published denoiser, told a learned noise level",
            noise_map=True,
            adapted=True,
            base=PUBLISHED,
        ),
        Preset("lorun_transfer", "lorun on a base of another task", adapted=True, base=ELSEWHERE, rate="lorun"),
        Preset("lorun_random", "lorun on random weights", adapted=True),
        Preset("relaxed", "adapters and the shared denoiser, trained together", adapted=True, joint=True),
        Preset(
            "relaxed_svd",
            "relaxed, started from the mean of a short Block-K and the SVD of its differences",
            adapted=True,
            joint=True,
            base="pretrain_block_k",
            decompose=True,
        ),
        Preset("block_k_base", "Block-K whose stages start as lorun's base", sharing="per_stage", base=PRETRAIN),
        Preset(
            "oracle",
            "the best adapters for the denoisers of block_k_base: its SVD, cut at the rank; not trained",
            adapted=True,
            base="block_k_base",
            decompose=True,
            trained=False,
        ),
        Preset("frozen", "a frozen base in all stages", frozen=True, base=PRETRAIN, rate="lorun"),
        Preset(PRETRAIN, "phase 1 of lorun: one stage", "paper", one_stage=True, rate="lorun", pretrains=True),
        Preset("pretrain_sigma", "one stage, told a noise level", one_stage=True, noise_map=True, pretrains=True),
        Preset("pretrain_mixed", "one stage, trained on mixtures", one_stage=True, mixed=True, pretrains=True),
        Preset("pretrain_shared", "a short shared", pretrains=True),
        Preset("pretrain_shared_sigma", "a short shared_sigma", noise_map=True, pretrains=True),
        Preset("pretrain_block_k", "a short block_k_base", sharing="per_stage", base=PRETRAIN, pretrains=True),
    )
}

STRATEGIES = tuple(name for name, preset in PRESETS.items() if not preset.pretrains)
"""The strategies that have rows."""

PRETRAININGS = tuple(name for name, preset in PRESETS.items() if preset.pretrains)
"""The strategies that train the bases of others."""
