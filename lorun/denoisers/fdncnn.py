"""FDnCNN: a plain convolutional denoiser that is told the noise level, and the weights that its authors released.

DnCNN (Zhang et al., TIP 2017) with the noise level map of FFDNet (Zhang, Zuo and Zhang, TIP 2018), without batch norm.
It estimates the image itself, not the residual. The released weights cover Gaussian noise from 0 to 75 of 255.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from lorun.denoisers.base import DenoiserSection, with_noise_map
from lorun.errors import LorunError, one_line
from lorun.memory import refuse_too_large


class FDnCNN(nn.Module):
    """`depth` 3x3 convolutions of `width` channels with ReLU between them; z (B, C, H, W) -> same shape, any size."""

    def __init__(self, channels: int, width: int = 64, depth: int = 20, noise_map: bool = False) -> None:
        super().__init__()
        self.noise_map = noise_map
        widths = [channels + noise_map, *[width] * (depth - 1), channels]
        convs = [nn.Conv2d(i, o, 3, padding=1) for i, o in pairwise(widths)]
        for conv in convs:  # torch's own initialisation lets the image fade: there are no skips and no norms
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        self.convs = nn.ModuleList(convs)

    def forward(self, z: Tensor, sigma: Tensor | None = None) -> Tensor:
        h = with_noise_map(z, sigma, self.noise_map)
        for conv in self.convs[:-1]:
            h = torch.relu(conv(h))
        x: Tensor = self.convs[-1](h)
        return x.to(z.dtype)


class FDnCNNConfig(DenoiserSection):
    """Plain convolutional denoiser of the image itself, with released weights for any Gaussian noise."""

    name: Literal["fdncnn"] = "fdncnn"
    width: int = Field(64, ge=1, description="channels; 64 for released weights")
    depth: int = Field(20, ge=2, description="3x3 convolutions, first and last included; 20 for released weights")
    weights: Path | None = Field(
        None,
        description="released weights: FDnCNN_gray.mat or FDnCNN_color.mat of data/weights_fdncnn, with a noise level",
    )

    def build(self, channels: int, noise_map: bool = False) -> FDnCNN:
        if self.weights is not None and not noise_map:
            raise LorunError(
                f"{self.weights}: weights of a denoiser that is told the noise level: use them where stages learn it, "
                "or where the operator gives it"
            )
        return FDnCNN(channels, self.width, self.depth, noise_map)

    @property
    def files(self) -> tuple[Path, ...]:
        return () if self.weights is None else (self.weights,)

    def released_weights(self) -> dict[str, Tensor] | None:
        return None if self.weights is None else read_released(self.weights)

    @classmethod
    def example(cls) -> Self:
        return cls(width=4, depth=4)


def read_released(path: Path) -> dict[str, Tensor]:
    """The state dict of a `FDnCNN` with a noise map, from a file as its authors released it. Never runs code.

    The file is MATLAB 7.3, which is HDF5, with the layers of MatConvNet in `net.layers`. HDF5 has the axes reversed:
    (out, in, width, height), without the first one if there is one channel out.

    Raises:
        LorunError: the file is missing, damaged, or holds no convolutions of finite numbers.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            layers = [file[reference] for reference in file["net"]["layers"][:, 0]]
            convs = [layer for layer in layers if _text(layer["type"]) == "conv"]
            state: dict[str, Tensor] = {}
            for number, conv in enumerate(convs):
                weight, bias = (torch.from_numpy(_numbers(file[part])) for part in conv["weights"][:, 0])
                kernels = weight.view(bias.numel(), -1, *weight.shape[-2:]).mT
                state |= {f"convs.{number}.weight": kernels, f"convs.{number}.bias": bias.flatten()}
    except Exception as error:  # h5py raises almost anything on damaged files
        raise LorunError(f"{path}: cannot be read as weights of FDnCNN ({one_line(error)[:200]})") from error
    for name, values in state.items():
        if not values.isfinite().all():
            raise LorunError(f"{path}: {name} has values that are not finite")
    if not state:
        raise LorunError(f"{path}: holds no convolutions")
    return state


def _numbers(dataset: Any) -> np.ndarray:
    """The values of a dataset of HDF5, in single precision."""
    refuse_too_large(dataset.name, dataset.nbytes)
    return np.asarray(dataset).astype(np.float32)


def _text(characters: Any) -> str:
    """MATLAB's text: the numbers of its characters."""
    return "".join(map(chr, np.asarray(characters).flatten()))
