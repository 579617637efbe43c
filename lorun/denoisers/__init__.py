"""Denoisers D(z[, sigma]) with images of the same shape in and out, made of layers that LoRA can adapt.

Each module defines one denoiser and its section of a profile; `DENOISERS` finds them by the name of the module.
"""

from typing import Annotated

from lorun.config.registry import Registry
from lorun.denoisers.base import DenoiserSection

__all__ = ["DENOISERS", "DenoiserConfig", "DenoiserSection"]

DENOISERS = Registry("denoiser", "lorun.denoisers", DenoiserSection)  # type: ignore[type-abstract]

DenoiserConfig = Annotated[DenoiserSection, DENOISERS]
"""The section of any denoiser, as the type of a field."""
