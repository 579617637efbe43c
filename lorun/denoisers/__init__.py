"""Proximal mappings: denoisers D(z[, sigma]) of the same shape in and out, made of layers that LoRA can adapt."""

from torch import nn

from lorun.config import DenoiserConfig, UNetConfig
from lorun.denoisers.cnn import CNN
from lorun.denoisers.unet import UNet

__all__ = ["CNN", "UNet", "build_denoiser"]


def build_denoiser(config: DenoiserConfig, channels: int, noise_map: bool = False) -> nn.Module:
    """The denoiser that `config` describes, for images of `channels` channels, freshly initialised."""
    kind = UNet if isinstance(config, UNetConfig) else CNN
    return kind(channels, noise_map=noise_map, **config.model_dump(exclude={"name"}))
