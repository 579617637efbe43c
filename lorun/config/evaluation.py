"""What is scored, kept and counted."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from lorun.config.section import NoTwo, Section

Pixels = Annotated[int, Field(ge=0)]


class EvaluationConfig(Section):
    """Scores, and the reconstructions that are kept."""

    protocols: Annotated[list[str], NoTwo] = Field(
        min_length=1, description="named protocols; the first is the one that tables lead with"
    )
    keep: list[str] = Field(
        default_factory=list,
        description="test images whose reconstructions are kept as PNG, under the first of several degradations",
    )
    points: list[tuple[Pixels, Pixels]] = Field(
        default_factory=list, description="row, column of pixels of these images whose spectra are kept and drawn"
    )
    strip: tuple[Pixels, Pixels, Annotated[int, Field(ge=1)]] = Field(
        (128, 128, 96), description="top, left, side of the crop in the figure, pixels"
    )

    @model_validator(mode="after")
    def _check_points(self) -> Self:
        if self.points and not self.keep:
            raise ValueError("`points` are pixels of the images that `keep` names: it names none")
        return self


class AccountingConfig(Section):
    """Sizes that parameters, bytes, FLOPs and latency are counted at."""

    batch: int = Field(16, ge=1, description="of the training step whose live bytes are counted")
    patch: int = Field(64, ge=1, description="pixels")
    image: int = Field(256, ge=1, description="side of the image for inference bytes, FLOPs and latency, pixels")
    latency_repeats: int = Field(5, ge=0, description="timed reconstructions; 0 measures no latency")
