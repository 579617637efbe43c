"""Typed configuration: what a profile may say, with units, defaults and checks.

A *profile* (`config/quick.yaml`, ...) lists tasks; a task lists *settings* (variants of its physics), *methods*
(sharing strategies and baselines) and seeds. `Profile.experiments` resolves them into `Experiment`s, one per
(task, setting, method, seed), which is all that training, evaluation and accounting ever see.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lorun.errors import LorunError, UnknownName

Strategy = Literal["block1", "separate", "shared", "shared_sigma", "lorun", "lorun_transfer", "lorun_random", "frozen"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)

TRANSFER = "lorun_transfer"
"""LoRun on the base that was pretrained in another setting, `TaskConfig.base_setting`, maybe of another task."""

FROZEN = "frozen"
"""A pretrained base as it is in every stage: that of `TaskConfig.base_setting`, or where there is none, of lorun."""

PRETRAINED = ("lorun", TRANSFER, FROZEN)
"""The strategies that start from a pretrained base."""

ADAPTED = ("lorun", TRANSFER, "lorun_random")
"""The strategies with a frozen base and an adapter per stage."""

Recompute = Literal["none", "stage"]
"""Of a training step: all activations are kept for the backward pass, or those of a stage are computed once more."""

PRETRAIN = "pretrain"
"""Phase 1 of LoRun: the `block1` strategy for `training.phase1_steps` steps. A method that has no row of its own."""

_RATE_OF = {PRETRAIN: "lorun", TRANSFER: "lorun", FROZEN: "lorun"}
"""Methods that take the learning rate of another: one base serves them all."""

# Of a training: what decides the bytes of a step, beside its sizes.
_SHAPE_A_STEP = {"optimizer", "weight_decay", "clip_norm", "ema", "loss", "precision", "recompute", "memory_budget"}

_KEY_LENGTH = 10  # hex digits of a run's key: 40 bits, ample for the runs of one suite


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class BlockCSConfig(_Config):
    """Block-wise compressed sensing; see `lorun.physics.block_cs`."""

    name: Literal["block_cs"] = "block_cs"
    ratio: float = Field(gt=0, le=100, description="measurements per pixel, percent")
    block: int = Field(32, ge=2, le=256, description="side of a block, pixels; the field uses 32 or 33")
    count: Literal["floor", "ceil", "ista_net"] = Field(
        "floor", description="how ratio * block**2 / 100 becomes the integer m"
    )
    padding: Literal["needed", "always"] = Field(
        "needed", description="pad right and below where needed, or always (a whole block on a multiple)"
    )
    matrix: Literal["gaussian", "learned", "learned_binary", "file"] = Field("gaussian", description="origin of Phi")
    matrix_seed: int = Field(0, ge=0, description="seed of the orthonormal Gaussian Phi, where learning starts too")
    matrix_file: Path | None = Field(
        None, description="m x block**2 matrix, .npy or .mat with the variable `phi`, with matrix: file"
    )
    initial: Literal["lmmse", "adjoint", "pseudo_inverse", "given"] = Field("lmmse", description="initial estimate x_0")
    initial_blocks: int = Field(20_000, ge=1, description="training blocks that the lmmse estimate is fitted on")
    initial_file: Path | None = Field(
        None, description="block**2 x m matrix, .npy or .mat with the variable `Qinit`, with initial: given"
    )

    @model_validator(mode="after")
    def _files_are_asked_for(self) -> Self:
        if (self.matrix == "file") != (self.matrix_file is not None):
            raise ValueError("`matrix: file` and `matrix_file` belong together: give both or neither")
        if (self.initial == "given") != (self.initial_file is not None):
            raise ValueError("`initial: given` and `initial_file` belong together: give both or neither")
        return self

    @property
    def learned(self) -> bool:
        """Whether Phi is trained with the network."""
        return self.matrix.startswith("learned")

    @property
    def files(self) -> list[Path]:
        """The files that it is made from."""
        return [path for path in (self.matrix_file, self.initial_file) if path is not None]

    @property
    def fitted(self) -> bool:
        """Whether its first estimate is fitted on training images."""
        return self.initial == "lmmse"

    @property
    def kind(self) -> str:
        """What may share a ranking, as the published tables name it: fixed_gaussian_33, learned_32, ..."""
        return f"{self.matrix if self.learned else 'fixed_gaussian'}_{self.block}"

    @property
    def heading(self) -> str:
        """What tables say of it, for people."""
        return f"ratio {self.ratio:g} %, Phi {self.kind}"

    @property
    def published_as(self) -> float | str:
        """The key of its published scores."""
        return self.ratio

    @property
    def channels(self) -> int | None:
        """How many channels images must have; None where any number will do."""
        return None

    @property
    def conditions(self) -> tuple[str, ...]:
        """What every test image is scored under, each by itself (`lorun.physics.Operator.under`)."""
        return ()


class CASSIConfig(_Config):
    """Coded aperture snapshot spectral imaging; see `lorun.physics.cassi`."""

    name: Literal["cassi"] = "cassi"
    bands: int = Field(28, ge=2, le=1000, description="spectral bands of a scene")
    step: int = Field(2, ge=1, description="dispersion, pixels of shift per band")
    mask: Literal["random", "file"] = Field("random", description="origin of the mask")
    mask_seed: int = Field(0, ge=0, description="seed of the random mask of open and closed pixels")
    mask_side: int = Field(256, ge=1, description="the mask is square; also the largest scene, pixels")
    mask_file: Path | None = Field(None, description="matrix, .npy or .mat with the variable `mask`, with mask: file")
    scaling: Literal["none", "mst"] = Field("none", description="y is the sum over bands, or that times 2 / bands")
    initial: Literal["normalised", "adjoint", "shift_back"] = Field(
        "normalised", description="initial estimate x_0: A^T (A A^T)^-1 y, A^T y, or y shifted back"
    )
    gradient: Literal["normalised", "plain"] = Field(
        "normalised", description="a stage steps along A^T (A A^T)^-1 r, or A^T r, with r = A x - y"
    )
    noise: Literal["none", "shot"] = Field("none", description="shot: counted electrons, see `CASSI.shot_noise`")
    quantum_efficiency: float = Field(0.4, gt=0, le=1, description="electrons per photon, of shot noise")
    noise_bits: int = Field(11, ge=1, le=24, description="2**noise_bits electrons are the full scale, of shot noise")
    noise_seed: int = Field(0, ge=0, description="of the realisation that every test scene has")

    @model_validator(mode="after")
    def _file_is_asked_for(self) -> Self:
        if (self.mask == "file") != (self.mask_file is not None):
            raise ValueError("`mask: file` and `mask_file` belong together: give both or neither")
        return self

    learned: ClassVar[bool] = False
    fitted: ClassVar[bool] = False
    conditions: ClassVar[tuple[str, ...]] = ()

    @property
    def files(self) -> list[Path]:
        return [] if self.mask_file is None else [self.mask_file]

    @property
    def kind(self) -> str:
        noise = "" if self.noise == "none" else f"_{self.noise}"
        return f"{'random_mask' if self.mask_file is None else 'mask'}_{self.bands}x{self.step}{noise}"

    @property
    def heading(self) -> str:
        mask = "random mask" if self.mask_file is None else f"mask {self.mask_file.parent.name}/{self.mask_file.name}"
        noise = "no noise" if self.noise == "none" else f"{self.noise} noise"
        return f"{self.bands} bands, dispersion {self.step} pixels, {mask}, {noise}"

    @property
    def published_as(self) -> float | str:
        return "sim" if self.noise == "none" else self.noise

    @property
    def channels(self) -> int | None:
        return self.bands


NoiseLevel = Annotated[float, Field(ge=0, le=255)]
"""Standard deviation, grey levels of 255."""


class BlurDownsampleConfig(_Config):
    """Super-resolution and deblurring with known kernels; see `lorun.physics.blur`."""

    name: Literal["blur_downsample"] = "blur_downsample"
    scale: int = Field(ge=1, le=8, description="decimation; 1 is deblurring")
    kernels: Literal["gaussian", "bicubic", "file"] = Field("gaussian", description="origin of the kernels")
    width: float = Field(1.6, gt=0, description="standard deviation of the Gaussian kernel, pixels")
    kernels_file: Path | None = Field(
        None, description="kernels, .mat with the cell array `kernels` or .npy (N, h, w), with kernels: file"
    )
    scored: list[Annotated[int, Field(ge=1)]] = Field(
        default_factory=list,
        description="those of the file that every test image is scored with, by number, from 1; with kernels: file",
    )
    noise: float = Field(0.0, ge=0, le=255, description="standard deviation, grey levels of 255")
    degradation: Literal["float", "usrnet_uint8"] = Field(
        "float", description="usrnet_uint8 truncates the blurred image to whole grey levels, as USRNet's script does"
    )
    training: Literal["drawn", "same"] = Field(
        "drawn", description="kernels of training steps: drawn at random, or one of those that are scored"
    )
    initial: Literal["tikhonov", "bicubic", "nearest", "adjoint"] = Field(
        "tikhonov", description="initial estimate x_0: A^T (A A^T + epsilon)^-1 y, y enlarged, or A^T y"
    )
    gradient: Literal["regularised", "plain"] = Field(
        "regularised", description="a stage steps along A^T (A A^T + epsilon)^-1 r, or A^T r, with r = A x - y"
    )
    epsilon: float = Field(1e-2, gt=0, description="of both, where the largest eigenvalue of A A^T is at most 1")
    noise_seed: int = Field(0, ge=0, description="of the noise that every test image has")
    modcrop: int | None = Field(
        8,
        ge=1,
        description="test images are cropped at the right and below to a multiple of the scale and of this, pixels; "
        "null: not at all",
    )

    @model_validator(mode="after")
    def _file_is_asked_for(self) -> Self:
        if not (self.kernels == "file") == (self.kernels_file is not None) == bool(self.scored):
            raise ValueError("`kernels: file`, `kernels_file` and `scored` belong together: give all or none")
        if len(set(self.scored)) < len(self.scored):
            raise ValueError(f"`scored` (={self.scored}) names a kernel twice")
        return self

    learned: ClassVar[bool] = False
    fitted: ClassVar[bool] = False
    channels: ClassVar[None] = None

    @property
    def conditions(self) -> tuple[str, ...]:
        return tuple(map(str, self.scored))

    @property
    def files(self) -> list[Path]:
        return [] if self.kernels_file is None else [self.kernels_file]

    @property
    def kind(self) -> str:
        kernels = self.kernels if self.kernels_file is None else self.kernels_file.stem
        return f"{kernels}_x{self.scale}_noise{self.noise:g}" + ("" if self.degradation == "float" else "_uint8")

    @property
    def heading(self) -> str:
        kernels = {"gaussian": f"Gaussian kernel of width {self.width:g}", "bicubic": "bicubic kernel"}.get(
            self.kernels
        )
        if kernels is None:
            kernels = f"kernels {', '.join(self.conditions)} of {self.files[0].parent.name}/{self.files[0].name}"
        return f"scale {self.scale}, {kernels}, noise {self.noise:g}/255, degradation {self.degradation}"

    @property
    def published_as(self) -> float | str:
        return f"x{self.scale}_sigma{self.noise:g}"


class DenoisingConfig(_Config):
    """Gaussian noise alone; see `lorun.physics.denoising`."""

    name: Literal["denoising"] = "denoising"
    noise: float = Field(25.0, ge=0, le=255, description="standard deviation at scoring, grey levels of 255")
    noise_range: tuple[NoiseLevel, NoiseLevel] | None = Field(
        None, description="lowest and highest of a training step, drawn for each image of a batch; None is `noise`"
    )
    noise_seed: int = Field(0, ge=0, description="of the noise that every test image has")

    @model_validator(mode="after")
    def _range_rises(self) -> Self:
        if self.noise_range is not None and self.noise_range[0] > self.noise_range[1]:
            raise ValueError(f"`noise_range` (={list(self.noise_range)}) must be [low, high]")
        return self

    learned: ClassVar[bool] = False
    fitted: ClassVar[bool] = False
    channels: ClassVar[None] = None
    conditions: ClassVar[tuple[str, ...]] = ()
    files: ClassVar[tuple[Path, ...]] = ()

    @property
    def kind(self) -> str:
        return f"gaussian_noise{self.noise:g}"

    @property
    def heading(self) -> str:
        trained = "" if self.noise_range is None else ", trained over {:g} to {:g}".format(*self.noise_range)
        return f"Gaussian noise {self.noise:g}/255{trained}"

    @property
    def published_as(self) -> float | str:
        return f"sigma{self.noise:g}"


PHYSICS: dict[str, type[BlockCSConfig] | type[CASSIConfig] | type[BlurDownsampleConfig] | type[DenoisingConfig]] = {
    "block_cs": BlockCSConfig,
    "cassi": CASSIConfig,
    "blur_downsample": BlurDownsampleConfig,
    "denoising": DenoisingConfig,
}

PhysicsConfig = Annotated[
    BlockCSConfig | CASSIConfig | BlurDownsampleConfig | DenoisingConfig, Field(discriminator="name")
]


class UNetConfig(_Config):
    """Residual U-Net; see `lorun.denoisers.unet`."""

    name: Literal["unet"] = "unet"
    width: int = Field(32, ge=1, description="channels at full resolution, doubled at each level")
    levels: int = Field(3, ge=1, le=6, description="resolutions, the full one included")
    blocks: int = Field(2, ge=1, description="residual blocks per level, each way")


class CNNConfig(_Config):
    """Plain convolutional denoiser; see `lorun.denoisers.cnn`."""

    name: Literal["cnn"] = "cnn"
    width: int = Field(32, ge=1, description="channels")
    depth: int = Field(6, ge=2, description="3x3 convolutions, first and last included")


class SpectralTransformerConfig(_Config):
    """Transformer with attention among channels; see `lorun.denoisers.spectral`."""

    name: Literal["spectral"] = "spectral"
    width: int = Field(28, ge=2, description="channels at full resolution, doubled at each level; those of a head")
    levels: int = Field(3, ge=1, le=6, description="resolutions, the full one included")
    blocks: int = Field(1, ge=1, description="attention and feed-forward blocks per level, each way")


DenoiserConfig = Annotated[UNetConfig | CNNConfig | SpectralTransformerConfig, Field(discriminator="name")]


class UnfoldingConfig(_Config):
    stages: int = Field(9, ge=1, le=100, description="K; block1 always has one")
    step_size: float = Field(1.0, gt=0, description="initial rho_k; 1 projects onto {x: Ax = y} for orthonormal Phi")
    noise_level: float = Field(0.1, gt=0, description="initial sigma_k of shared_sigma, in image units [0, 1]")


class LoraConfig(_Config):
    gamma: float = Field(10.0, gt=0, le=100, description="rank = ceil(min(in, out) * gamma / 100)")
    forward: Literal["composed", "ordinary"] = Field(
        "composed", description="conv(x, W + BA), or conv(x, W) + B(A(x)) as peft does; the same function"
    )


class DataConfig(_Config):
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


class TrainingConfig(_Config):
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
        own = self.learning_rates.get(_RATE_OF.get(method, method), self.learning_rate)
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
            if method in _RATE_OF:
                raise ValueError(
                    f"`learning_rates` of `{method}`: it takes that of `{_RATE_OF[method]}`, whose base it shares"
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


class EvaluationConfig(_Config):
    protocols: list[str] = Field(
        min_length=1, description="named protocols; the first is the one that tables lead with"
    )
    keep: list[str] = Field(
        default_factory=list,
        description="test images whose reconstructions are kept as PNG, those under the first of several conditions",
    )
    points: list[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]] = Field(
        default_factory=list,
        exclude_if=lambda points: not points,  # absent, so that hashes are those of before there was such a thing
        description="row, column of pixels whose spectra are kept of these images, and drawn",
    )
    strip: tuple[int, int, int] = Field((128, 128, 96), description="top, left, side of the crop in the figure, pixels")

    @model_validator(mode="after")
    def _points_are_of_kept_images(self) -> Self:
        if self.points and not self.keep:
            raise ValueError("`points` are pixels of the images that `keep` names: it names none")
        return self


class AccountingConfig(_Config):
    batch: int = Field(16, ge=1, description="of the training step whose live bytes are counted")
    patch: int = Field(64, ge=1, description="pixels")
    image: int = Field(256, ge=1, description="side of the image for inference bytes, FLOPs and latency, pixels")
    latency_repeats: int = Field(5, ge=0, description="timed reconstructions; 0 measures no latency")


class TaskConfig(_Config):
    """One inverse problem: data, physics and its settings, network, methods, budget, measures."""

    data: DataConfig
    physics: dict[str, Any] = Field(description="what all settings share: `name` says which, see PHYSICS")
    settings: dict[str, dict[str, Any]] = Field(min_length=1, description="name -> what it changes in the physics")
    denoiser: DenoiserConfig = UNetConfig()
    unfolding: UnfoldingConfig = UnfoldingConfig()
    lora: LoraConfig = LoraConfig()
    base_setting: str | None = Field(
        None,
        description="setting whose pretrained denoiser is the base of frozen and of lorun_transfer, which runs in all "
        "others",
    )
    base_task: str | None = Field(
        None, description="task of the profile that base_setting is a setting of; by default it is one of this task"
    )
    strategies: list[Strategy] = Field(default_factory=list)
    baselines: list[str] = Field(default_factory=list, description="folders of baselines/")
    weights: dict[str, dict[str, Path]] = Field(
        default_factory=dict,
        description="baseline -> setting -> file of released weights that it takes instead of a training; it then runs "
        "in these settings alone",
    )
    only: dict[str, list[str]] = Field(
        default_factory=dict, description="method -> the settings that it runs in, instead of all"
    )
    training: TrainingConfig
    evaluation: EvaluationConfig
    accounting: AccountingConfig = AccountingConfig()

    @model_validator(mode="after")
    def _settings_are_physics(self) -> Self:
        for setting in self.settings:
            try:
                physics = self.physics_of(setting)
            except ValidationError as error:
                raise ValueError(f"setting `{setting}`: {explain(error)}") from error
            except LorunError as error:
                raise ValueError(f"setting `{setting}`: {error}") from error
            if physics.channels not in (None, self.data.channels):
                raise ValueError(
                    f"setting `{setting}`: {physics.channels} bands, but `data.channels` is {self.data.channels}"
                )
        return self

    @model_validator(mode="after")
    def _points_have_spectra(self) -> Self:
        if self.evaluation.points and self.data.channels != 28:
            raise ValueError(f"`evaluation.points` are of spectra, but `data.channels` is {self.data.channels}")
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        if not self.methods:
            raise ValueError("give `strategies` or `baselines`")
        for method, settings in {**self.only, **self.weights}.items():
            if method not in self.methods:
                raise ValueError(f"`weights` and `only` speak of the method `{method}`, which the task does not have")
            unknown = set(settings) - set(self.settings)
            if unknown:
                raise ValueError(f"`weights` and `only` of `{method}` name no settings of the task: {sorted(unknown)}")
        trained = set(self.weights) & set(self.strategies)
        if trained:
            raise ValueError(f"released weights are for baselines, not for {sorted(trained)}")
        return self

    @model_validator(mode="after")
    def _base_is_of_another_setting(self) -> Self:
        base = self.base_setting
        if base is None and TRANSFER in self.strategies:
            raise ValueError(f"the strategy `{TRANSFER}` needs a `base_setting`, whose base it takes")
        if base is None and self.base_task is not None:
            raise ValueError(f"`base_task` (={self.base_task!r}) needs a `base_setting`, one of that task")
        if base is not None and not {TRANSFER, FROZEN} & set(self.strategies):
            raise ValueError(f"`base_setting` (={base!r}) is for the strategies `{TRANSFER}` and `{FROZEN}`: give one")
        if base is None or self.base_task is not None:
            return self
        if base not in self.settings:
            raise ValueError(f"`base_setting` (={base!r}) is no setting of the task: {', '.join(self.settings)}")
        if TRANSFER not in self.strategies:
            return self
        if len(self.settings) == 1:
            raise ValueError(f"`{TRANSFER}` runs in the settings other than `base_setting` (={base!r}); there is none")
        if base in self.only.get(TRANSFER, []):
            raise ValueError(
                f"`only` of `{TRANSFER}` names `base_setting` (={base!r}), the one that it does not run in"
            )
        return self

    def methods_of(self, setting: str) -> list[str]:
        """The methods that run in a setting."""
        limited: dict[str, Any] = {**self.only, **self.weights}
        if setting == self.base_setting and self.base_task is None:
            limited[TRANSFER] = ()
        return [method for method in self.methods if setting in limited.get(method, self.settings)]

    def physics_of(self, setting: str) -> PhysicsConfig:
        said = {**self.physics, **self.settings[setting]}
        if "name" not in said:
            raise LorunError(f"`physics.name` is missing. Choices: {', '.join(PHYSICS)}")
        physics: PhysicsConfig = _named(PHYSICS, str(said["name"]), "physics").model_validate(said)
        return physics

    @property
    def methods(self) -> list[str]:
        return [*self.strategies, *self.baselines]


_IF_ANOTHER_TASK: Any = Field(None, exclude_if=lambda said: said is None)  # absent, so that hashes stay


class BaseConfig(_Config):
    """The setting that a base was pretrained in; of another task, all that may differ there and shapes the base."""

    setting: str
    physics: PhysicsConfig
    task: str | None = _IF_ANOTHER_TASK
    data: DataConfig | None = _IF_ANOTHER_TASK
    unfolding: UnfoldingConfig | None = _IF_ANOTHER_TASK
    training: TrainingConfig | None = _IF_ANOTHER_TASK


class Experiment(_Config):
    """One training and everything measured on it: a (task, setting, method, seed), fully resolved."""

    task: str
    setting: str
    method: str
    seed: int
    data: DataConfig
    physics: PhysicsConfig
    denoiser: DenoiserConfig
    unfolding: UnfoldingConfig
    lora: LoraConfig
    training: TrainingConfig
    weights: Path | None = Field(None, description="released weights that take the place of a training")
    evaluation: EvaluationConfig
    accounting: AccountingConfig
    base: BaseConfig | None = Field(
        None,
        exclude_if=lambda base: base is None,  # absent, so that hashes are those of before there was such a thing
        description="where the base of lorun_transfer or frozen comes from; None where it is of the same setting",
    )

    @property
    def key(self) -> str:
        """Hash of all that can change the trained weights; the same for the same run in any profile."""
        return _digest(self._shapes_weights())[:_KEY_LENGTH]

    def _shapes_weights(self) -> dict[str, Any]:
        left_out = {"task", "setting", "evaluation", "accounting"}
        # What is not set is left out too: an option that a later version adds does not change the keys of today.
        said = self.model_dump(mode="json", exclude=left_out, exclude_none=True)
        if self.weights is not None:
            return {part: said[part] for part in ("method", "physics", "weights")}
        said["data"].pop("test")
        if self.base is not None:
            del said["base"]["setting"]  # a name
            if self.base.task is not None:
                said["base"] = self.pretraining._shapes_weights()
        if self.method not in ADAPTED:
            del said["lora"]
        if self.method not in (*PRETRAINED, PRETRAIN):
            del said["training"]["phase1_steps"]
        if self.method == PRETRAIN:
            del said["training"]["steps"]
        if self.method in ("block1", PRETRAIN):
            del said["unfolding"]["stages"]
        if self.method != "shared_sigma":
            del said["unfolding"]["noise_level"]
        for resolved_or_irrelevant in ("learning_rates", "checkpoint_every", "recompute", "memory_budget"):
            said["training"].pop(resolved_or_irrelevant, None)
        return said

    @property
    def trained_on(self) -> list[str]:
        """The datasets that shape a training, those of its operator, its released weights and its base included."""
        files = [*self.physics.files, *([] if self.weights is None else [self.weights])]
        files += [] if self.base is None else self.base.physics.files
        found = {name for path in files if (name := dataset_of(path)) is not None}
        if self.base is not None and self.base.data is not None:
            found |= {self.base.data.train, self.base.data.validation}
        if self.weights is None:
            found |= {self.data.train, self.data.validation}
        elif self.physics.fitted:
            found.add(self.data.train)
        return sorted(found)

    @property
    def datasets(self) -> list[str]:
        """All datasets, those that are scored on too."""
        return sorted({*self.trained_on, *self.data.test})

    @property
    def labels(self) -> dict[str, Any]:
        """What tells the experiment from others in a table: task, setting, method, seed."""
        return {"task": self.task, "setting": self.setting, "method": self.method, "seed": self.seed}

    @property
    def config_hash(self) -> str:
        """Hash of the whole experiment, measures included; options that came later show only where they are used."""
        said = self.model_dump(mode="json")
        for option in ("recompute", "memory_budget"):
            if said["training"][option] == TrainingConfig.model_fields[option].default:
                del said["training"][option]
        return _digest(said)[:_KEY_LENGTH]

    @property
    def account_key(self) -> str:
        """Hash of what can change an account: the sizes and how a step is made, whatever the data, seed and budget."""
        sizes = self.model_dump(mode="json", exclude={"seed", "training", "weights", "evaluation", "data", "base"})
        step = self.training.model_dump(mode="json", include=_SHAPE_A_STEP)
        return _digest({**sizes, "channels": self.data.channels, "step": step})[:_KEY_LENGTH]

    @property
    def name(self) -> str:
        return f"{self.task}/{self.setting}/{self.method} seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where the run lies below the folder of all runs."""
        return Path(self.task, self.setting, self.method, f"seed{self.seed}-{self.key}")

    @property
    def pretraining(self) -> Self:
        """Phase 1 that an experiment of one of the `PRETRAINED` starts from, in the task and setting of its base."""
        where = {} if self.base is None else {part: said for part, said in self.base if said is not None}
        return self.model_copy(update={"method": PRETRAIN, "base": None, **where})

    @property
    def stages(self) -> int:
        return 1 if self.method in ("block1", PRETRAIN) else self.unfolding.stages

    @property
    def first_step(self) -> int:
        """Position in the patch stream at which this run starts: LoRun's phase 2 goes on where phase 1 ended.

        On the base of another task it is where its own phase 1 would have ended, so that adapters have the same steps
        on any base.
        """
        return self.training.phase1_steps if self.method in PRETRAINED else 0

    @property
    def last_step(self) -> int:
        return self.training.phase1_steps if self.method == PRETRAIN else self.training.steps


class Profile(_Config):
    """A whole benchmark: `config/<profile>.yaml`."""

    profile: str
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    tasks: dict[str, TaskConfig] = Field(min_length=1)

    @field_validator("tasks", mode="before")
    @classmethod
    def _null_is_no_task(cls, tasks: Any) -> Any:
        """A profile that extends another leaves out a task of it by saying null."""
        return {name: task for name, task in tasks.items() if task is not None} if isinstance(tasks, dict) else tasks

    @model_validator(mode="after")
    def _bases_of_other_tasks_fit(self) -> Self:
        for name, task in self.tasks.items():
            if task.base_task is None:
                continue
            said = f"task `{name}`: `base_task` (={task.base_task!r})"
            others = [other for other in self.tasks if other != name]
            if task.base_task not in others:
                raise ValueError(f"{said} is no other task of the profile: {', '.join(others) or 'there is none'}")
            other = self.tasks[task.base_task]
            if task.base_setting not in other.settings:
                raise ValueError(
                    f"{said} has no setting `base_setting` (={task.base_setting!r}): {', '.join(other.settings)}"
                )
            if other.data.channels != task.data.channels:
                raise ValueError(
                    f"{said} has images of {other.data.channels} channels, this task of {task.data.channels}"
                )
            if other.denoiser != task.denoiser:
                raise ValueError(f"{said} has the denoiser {_words(other.denoiser)}, this task {_words(task.denoiser)}")
        return self

    def experiments(self) -> Iterator[Experiment]:
        """Every experiment that has a row, in the order of the configuration (pretrainings not among them)."""
        for task_name, task in self.tasks.items():
            for setting in task.settings:
                for method in task.methods_of(setting):
                    # Released weights are what they are, whatever the seed.
                    for seed in self.seeds[:1] if method in task.weights else self.seeds:
                        yield self.experiment(task_name, setting, method, seed)

    def accounted(self) -> Iterator[Experiment]:
        """The experiments with the first seed: an account is the same for all seeds."""
        return (experiment for experiment in self.experiments() if experiment.seed == self.seeds[0])

    def datasets(self) -> list[str]:
        """Every dataset that a task uses."""
        return sorted({name for experiment in self.experiments() for name in experiment.datasets})

    def experiment(self, task: str, setting: str, method: str, seed: int) -> Experiment:
        """Resolve one experiment. Raises UnknownName where the profile has no such task, setting or method."""
        chosen = _named(self.tasks, task, "task")
        _named(chosen.settings, setting, "setting")
        if method != PRETRAIN and method not in chosen.methods:
            raise UnknownName("method", method, [*chosen.methods, PRETRAIN])
        if method != PRETRAIN and method not in chosen.methods_of(setting):
            runs_in = [name for name in chosen.settings if method in chosen.methods_of(name)]
            raise LorunError(f"{task}: the method {method!r} does not run in {setting!r}, but in {', '.join(runs_in)}")
        return Experiment(
            task=task,
            setting=setting,
            method=method,
            seed=seed,
            physics=chosen.physics_of(setting),
            training=chosen.training.for_method(method),
            weights=chosen.weights.get(method, {}).get(setting),
            base=self._base_of(chosen, setting) if method in (TRANSFER, FROZEN) else None,
            **{
                part: getattr(chosen, part)
                for part in ("data", "denoiser", "unfolding", "lora", "evaluation", "accounting")
            },
        )

    def _base_of(self, task: TaskConfig, setting: str) -> BaseConfig | None:
        """Where the base of a task that names one comes from; None where it is that of the setting itself."""
        base = task.base_setting
        if base is None or (base == setting and task.base_task is None):
            return None
        if task.base_task is None:
            return BaseConfig(setting=base, physics=task.physics_of(base))
        other = self.tasks[task.base_task]
        return BaseConfig(
            setting=base,
            physics=other.physics_of(base),
            task=task.base_task,
            data=other.data,
            unfolding=other.unfolding,
            training=other.training.for_method(PRETRAIN),
        )


def load_profile(path: Path | str) -> Profile:
    """Read a profile; `extends: other.yaml` starts from another file in the same folder and overrides its keys. A task
    that is null is left out.

    Raises LorunError with one line a mistake: the file, the key, its value, and the nearest known key or the choices.
    """
    path = Path(path)
    try:
        return Profile.model_validate(_read(path))
    except ValidationError as error:
        raise LorunError(f"{path}: {explain(error)}") from error


def dataset_of(path: Path) -> str | None:
    """The dataset that a file of a profile belongs to: data/NAME/..., or None for a file from elsewhere."""
    parts = path.parts
    return parts[1] if len(parts) > 2 and parts[0] == "data" else None


def profile_schema() -> dict[str, Any]:
    """The JSON schema of profiles."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Profile.model_json_schema()}


def explain(error: ValidationError, keys: Iterable[str] = ()) -> str:
    """What pydantic found wrong, in one line, with the nearest of the known keys (of a profile) for an unknown one."""
    known = sorted(keys) or _all_field_names()
    return "; ".join(_explain_one(dict(one), known) for one in error.errors())


def _explain_one(error: dict[str, Any], known: list[str]) -> str:
    *parents, last = [str(part) for part in error["loc"]] or [""]
    where = ".".join([*parents, last])
    if error["type"] == "extra_forbidden":
        near = get_close_matches(last, known, n=1)
        return f"unknown key `{where}`." + (f" Did you mean `{near[0]}`?" if near else "")
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"`{where}` is missing"
    if error["type"] == "literal_error":
        choices = error["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        near = get_close_matches(str(error["input"]), choices, n=1)
        message += f". Did you mean '{near[0]}'?" if near else ""
    shown = f" (={error['input']!r})" if not isinstance(error["input"], dict | list) else ""
    return f"`{where}`{shown}: {message}" if where else message


def _all_field_names() -> list[str]:
    models: list[type[BaseModel]] = [Profile, TaskConfig, *PHYSICS.values(), UNetConfig, CNNConfig]
    models += [SpectralTransformerConfig, UnfoldingConfig, LoraConfig, DataConfig, TrainingConfig, EvaluationConfig]
    models += [AccountingConfig]
    return sorted({name for model in models for name in model.model_fields})


def _read(path: Path, children: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path in children:
        raise LorunError(f"{path}: extends itself, by way of {', '.join(map(str, children))}")
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = sorted(str(other) for other in path.parent.glob("*.yaml"))
        raise UnknownName("profile", str(path), known) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LorunError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(said, dict):
        raise LorunError(f"{path}: a profile is a mapping of keys, not {type(said).__name__}")
    parent = said.pop("extends", None)
    if parent is None:
        return said
    if not isinstance(parent, str):
        raise LorunError(f"{path}: `extends` (={parent!r}) must be the name of a file in {path.parent}")
    return _overlay(_read(path.parent / parent, (*children, path)), said)


def _overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _overlay(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _words(config: BaseModel) -> str:
    return " ".join(f"{name}={value}" for name, value in config)


def _named(choices: Mapping[str, Any], name: str, kind: str) -> Any:
    if name not in choices:
        raise UnknownName(kind, name, choices)
    return choices[name]


def _digest(said: Any) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
