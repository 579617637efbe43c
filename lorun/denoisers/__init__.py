"""Proximal mappings: denoisers D(z[, sigma]) of the same shape in and out, made of layers that LoRA can adapt."""

from collections.abc import Callable

from torch import nn

from lorun.config import CNNConfig, DenoiserConfig, SpectralTransformerConfig, UNetConfig
from lorun.denoisers.cnn import CNN
from lorun.denoisers.spectral import SpectralTransformer
from lorun.denoisers.unet import UNet

__all__ = ["CNN", "SpectralTransformer", "UNet", "build_denoiser"]

_KINDS: dict[type, Callable[..., nn.Module]] = {
    UNetConfig: UNet,
    CNNConfig: CNN,
    SpectralTransformerConfig: SpectralTransformer,
}


def build_denoiser(config: DenoiserConfig, channels: int, noise_map: bool = False) -> nn.Module:
    """The denoiser that `config` describes, for images of `channels` channels, freshly initialised."""
    return _KINDS[type(config)](channels, noise_map=noise_map, **config.model_dump(exclude={"name"}))
