"""The section of a denoiser, and what denoisers share: released weights, noise level input, initialisation, U-shape."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorun.config.section import Section
from lorun.errors import LorunError


class DenoiserSection(Section):
    """The section of a denoiser: the keys of a profile.

    A subclass has `name: Literal[...]` with the name of its module as default, and defines `build`.
    """

    name: str

    @abstractmethod
    def build(self, channels: int, noise_map: bool = False) -> nn.Module:
        """A freshly initialised denoiser D(z) for images of `channels` channels; D(z, sigma) with a noise map."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Files of weights that the section names."""
        return ()

    def released_weights(self) -> Mapping[str, Tensor] | None:
        """The state dict of the weights that the section names; None where it names none.

        Raises:
            LorunError: the file is missing or damaged.
        """
        return None

    @classmethod
    def example(cls) -> "DenoiserSection":
        """A small denoiser for tests; by default the section with its defaults."""
        return cls()  # type: ignore[call-arg]


@torch.no_grad()
def load_released(section: DenoiserSection, parameters: Mapping[str, Tensor]) -> None:
    """Copy the released weights that `section` names into the parameters of a denoiser that it built.

    Args:
        section: of the denoiser; it must name weights.
        parameters: by name: `dict(denoiser.named_parameters())`, or `AdaptedDenoiser.base_parameters()`.

    Raises:
        LorunError: the section names no weights, its file is missing or damaged, or its weights have other names or
            shapes. The message names the first one. No parameter is changed then.
    """
    released = section.released_weights()
    if released is None:
        raise LorunError(f"the denoiser {section.name!r} names no released weights")
    source = ", ".join(map(str, section.files))
    for name in sorted(parameters.keys() | released.keys()):
        found, needed = (tuple(one[name].shape) if name in one else None for one in (released, parameters))
        if found != needed:
            raise LorunError(
                f"{source}: does not fit the denoiser {section.name!r} at `{name}`: shape {found} instead of {needed}; "
                "weights of another size or number of channels?"
            )
    for name, parameter in parameters.items():
        parameter.copy_(released[name])


def with_noise_map(z: Tensor, sigma: Tensor | None, expected: bool) -> Tensor:
    """Append sigma (image units; a scalar, or (B, 1, 1, 1)) to z: (B, C, H, W) -> (B, C+1, H, W); z itself if not
    `expected`.

    Raises:
        ValueError: sigma given to a denoiser without a noise map, or the reverse.
    """
    if (sigma is not None) != expected:
        raise ValueError(f"the denoiser was built with noise_map={expected}, but sigma is {sigma}")
    if sigma is None:
        return z
    level = sigma.to(z.dtype).expand(z.shape[0], 1, *z.shape[2:])
    return torch.cat([z, level], dim=1)


@torch.no_grad()
def start_small(last: nn.Module) -> None:
    """Scale down the initial weights of the last layer, so that K untrained stages change their input little."""
    for parameter in last.parameters():
        parameter.mul_(0.1)


class UShape(nn.Module):
    """z + u(z), u going down to coarser resolutions and up again: (B, C, H, W) -> same shape, any size.

    Edges are replicated to a multiple of `multiple`, then cropped; skips are added. A subclass defines the parts.
    """

    noise_map: bool
    multiple: int
    head: nn.Module
    encoder: Any  # `encoder` and `down` begin at the full resolution, `up` and `decoder` at the coarsest
    down: Any
    body: nn.Module
    up: Any
    decoder: Any
    tail: nn.Module

    def forward(self, z: Tensor, sigma: Tensor | None = None) -> Tensor:
        return z + self.residual(with_noise_map(z, sigma, self.noise_map))

    def residual(self, h: Tensor) -> Tensor:
        """u: (B, channels of the head, H, W) -> (B, channels of the tail, H, W)."""
        height, width = h.shape[2:]
        h = F.pad(h, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")
        h = self.head(h)
        skips = []
        for encode, down in zip(self.encoder, self.down, strict=True):
            h = encode(h)
            skips.append(h)
            h = down(h)
        h = self.body(h)
        for up, decode in zip(self.up, self.decoder, strict=True):
            h = decode(up(h) + skips.pop())
        return self.tail(h)[..., :height, :width]
