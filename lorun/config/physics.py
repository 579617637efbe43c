"""Measurement models and their settings; an operator is added here and in `lorun.physics`."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from lorun.config.section import Section


class BlockCSConfig(Section):
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
    def noise_map(self) -> bool:
        """Whether denoisers are told the noise level of each measurement."""
        return False

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
    def degradations(self) -> tuple[str, ...]:
        """What every test image is scored under, each by itself (`lorun.physics.Operator.under`)."""
        return ()


class CASSIConfig(Section):
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
    noise_map: ClassVar[bool] = False
    fitted: ClassVar[bool] = False
    degradations: ClassVar[tuple[str, ...]] = ()

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


class BlurDownsampleConfig(Section):
    """Super-resolution and deblurring with known kernels; see `lorun.physics.blur`."""

    name: Literal["blur_downsample"] = "blur_downsample"
    scale: int = Field(ge=1, le=8, description="decimation; 1 is deblurring")
    kernels: Literal["gaussian", "bicubic", "drawn", "file"] = Field(
        "gaussian", description="origin of the kernels; drawn: at random, as training draws its own"
    )
    width: float = Field(1.6, gt=0, description="standard deviation of the Gaussian kernel, pixels")
    kernels_file: Path | None = Field(
        None, description="kernels, .mat with the cell array `kernels` or .npy (N, h, w), with kernels: file"
    )
    scored: list[Annotated[int, Field(ge=1)]] = Field(
        default_factory=list,
        description="those that every test image is scored with, by number, from 1; with kernels: file or drawn",
    )
    noise: float = Field(0.0, ge=0, le=255, description="standard deviation, grey levels of 255")
    quantisation: Literal["float", "usrnet_uint8"] = Field(
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
        if (self.kernels == "file") != (self.kernels_file is not None):
            raise ValueError("`kernels: file` and `kernels_file` belong together: give both or neither")
        if (self.kernels in ("file", "drawn")) != bool(self.scored):
            raise ValueError(
                "`scored` says which of the kernels of a file, or of those drawn: give it there, and there alone"
            )
        if len(set(self.scored)) < len(self.scored):
            raise ValueError(f"`scored` (={self.scored}) names a kernel twice")
        return self

    learned: ClassVar[bool] = False
    noise_map: ClassVar[bool] = False
    fitted: ClassVar[bool] = False
    channels: ClassVar[None] = None

    @property
    def degradations(self) -> tuple[str, ...]:
        return tuple(map(str, self.scored))

    @property
    def files(self) -> list[Path]:
        return [] if self.kernels_file is None else [self.kernels_file]

    @property
    def kind(self) -> str:
        kernels = self.kernels if self.kernels_file is None else self.kernels_file.stem
        return f"{kernels}_x{self.scale}_noise{self.noise:g}" + ("" if self.quantisation == "float" else "_uint8")

    @property
    def heading(self) -> str:
        kernels = {"gaussian": f"Gaussian kernel of width {self.width:g}", "bicubic": "bicubic kernel"}.get(
            self.kernels
        )
        if kernels is None:
            origin = f"of {self.files[0].parent.name}/{self.files[0].name}" if self.files else "drawn at random"
            kernels = f"kernels {', '.join(self.degradations)} {origin}"
        return f"scale {self.scale}, {kernels}, noise {self.noise:g}/255, quantisation {self.quantisation}"

    @property
    def published_as(self) -> float | str:
        return f"x{self.scale}_sigma{self.noise:g}"


class DenoisingConfig(Section):
    """Gaussian noise alone; see `lorun.physics.denoising`."""

    name: Literal["denoising"] = "denoising"
    noise: float = Field(25.0, ge=0, le=255, description="standard deviation at scoring, grey levels of 255")
    noise_range: tuple[NoiseLevel, NoiseLevel] | None = Field(
        None, description="lowest and highest of a training step, drawn for each image of a batch; None is `noise`"
    )
    noise_seed: int = Field(0, ge=0, description="of the noise that every test image has")
    noise_map: bool = Field(
        False,
        exclude_if=lambda noise_map: not noise_map,  # absent, so that hashes are those of before there was such a thing
        description="tell the denoiser the level of each image, as an input map",
    )

    @model_validator(mode="after")
    def _range_rises(self) -> Self:
        if self.noise_range is not None and self.noise_range[0] > self.noise_range[1]:
            raise ValueError(f"`noise_range` (={list(self.noise_range)}) must be [low, high]")
        return self

    learned: ClassVar[bool] = False
    fitted: ClassVar[bool] = False
    channels: ClassVar[None] = None
    degradations: ClassVar[tuple[str, ...]] = ()
    files: ClassVar[tuple[Path, ...]] = ()

    @property
    def kind(self) -> str:
        return f"gaussian_noise{self.noise:g}" + ("_known" if self.noise_map else "")

    @property
    def heading(self) -> str:
        trained = "" if self.noise_range is None else ", trained over {:g} to {:g}".format(*self.noise_range)
        known = ", known to the denoiser" if self.noise_map else ""
        return f"Gaussian noise {self.noise:g}/255{trained}{known}"

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
