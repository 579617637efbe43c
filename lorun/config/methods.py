"""The ways in which stages share denoisers, by name (`lorun.unfolding` says what each is)."""

from typing import Literal, get_args

Strategy = Literal["block1", "block_k", "shared", "shared_sigma", "lorun", "lorun_transfer", "lorun_random", "frozen"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)

TRANSFER = "lorun_transfer"
"""LoRun on the base that was pretrained in another setting, `TaskConfig.base_setting`, maybe of another task."""

FROZEN = "frozen"
"""A pretrained base as it is in every stage: that of `TaskConfig.base_setting`, or where there is none, of lorun."""

DEEP_PLUG_AND_PLAY = "deep_plug_and_play"
"""No network of stages, but half-quadratic splitting with a pretrained denoiser that is told the noise level
(`lorun.splitting`): the `block1` of `TaskConfig.denoiser_setting`. Named among the strategies of a profile."""

Named = Literal[Strategy, "deep_plug_and_play"]
NAMED: tuple[str, ...] = get_args(Named)
"""What `strategies` of a profile may name: the methods that are no baselines."""

PRETRAINED = ("lorun", TRANSFER, FROZEN, DEEP_PLUG_AND_PLAY)
"""The methods that start from a pretrained base."""

ADAPTED = ("lorun", TRANSFER, "lorun_random")
"""The strategies with a frozen base and an adapter per stage."""

Recompute = Literal["none", "stage"]
"""Of a training step: all activations are kept for the backward pass, or those of a stage are computed once more."""

PRETRAIN = "pretrain"
"""Phase 1 of LoRun: the `block1` strategy for `training.phase1_steps` steps. A method that has no row of its own."""

RATE_OF = {PRETRAIN: "lorun", TRANSFER: "lorun", FROZEN: "lorun"}
"""Methods that take the learning rate of another: one base serves them all."""
