"""What the residual denoisers share: the noise level as an input channel, and a start close to the identity."""

import torch
from torch import Tensor, nn


def with_noise_map(z: Tensor, sigma: Tensor | None, expected: bool) -> Tensor:
    """Append sigma (a scalar tensor, image units) to z: (B, C, H, W) -> (B, C+1, H, W); z itself if not `expected`.

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
    """Scale the initial weights of the layer that gives the residual, so that K untrained stages change little."""
    for parameter in last.parameters():
        parameter.mul_(0.1)
