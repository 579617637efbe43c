"""What is measured, of one image, in float64 on the CPU so that no digit depends on the device.

Every function takes finite float tensors (C, H, W) of the same shape with values in [0, 1], as they are: clipping,
rounding, cropping and checking belong to `lorun.evaluation.protocols.score`. Of PSNR C is 1 or 3, as pyiqa has it: more
bands go in one by one.
"""

import copy
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import torch

from lorun.errors import LorunError

if TYPE_CHECKING:
    from deepinv.physics import LinearPhysics


@dataclass(frozen=True)
class Metric:
    """How tables and figures speak of a metric.

    name    in rows and columns
    title   for people
    unit    "" for none
    better  which values are
    digits  decimals that tables for people show
    """

    name: str
    title: str
    unit: str
    better: Literal["higher", "lower"]
    digits: int

    @property
    def heading(self) -> str:
        """The title with its unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("psnr", "PSNR", "dB", "higher", 2),
        Metric("ssim", "SSIM", "", "higher", 4),
        Metric("sam", "SAM", "degrees", "lower", 2),
        Metric("residual", "residual", "ratio", "lower", 4),
    )
}
"""Every metric there is, in the order of the tables' columns."""

PSNR_LIMIT = 80.0
"""dB. Mean squared errors below 1e-8 all score this, so that a perfect image has a finite PSNR to average."""

SsimKind = Literal["uniform7", "gaussian11"]

SSIM_WINDOW: dict[SsimKind, int] = {"uniform7": 7, "gaussian11": 11}
"""Side of the window in pixels: the smallest image that the SSIM is defined for."""

_SSIM_OPTIONS: dict[SsimKind, dict[str, bool | float]] = {
    "uniform7": {"win_size": 7, "gaussian_weights": False, "use_sample_covariance": True},
    # sigma 1.5 truncated at scikit-image's 3.5 sigma is the 11x11 window
    "gaussian11": {"sigma": 1.5, "gaussian_weights": True, "use_sample_covariance": False},
}


def psnr(estimate: torch.Tensor, truth: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(1 / MSE) over all C*H*W values, at most `PSNR_LIMIT`.

    Computed by pyiqa's `psnr` on the channels as given, with eps=0. Its default adds 1e-8 to the MSE, which
    saturates it at 80 dB too, but also costs 0.0003 dB at 38 dB and 0.04 dB at 60 dB.
    """
    value = _pyiqa_psnr()(_double(estimate)[None], _double(truth)[None])
    return min(value.item(), PSNR_LIMIT)


def ssim(estimate: torch.Tensor, truth: torch.Tensor, kind: SsimKind) -> float:
    """Mean structural similarity in [-1, 1], peak 255 on the values times 255, averaged over the channels.

    `uniform7`: 7x7 uniform window and sample covariance, scikit-image's default (ISTA-Net and its family).
    `gaussian11`: 11x11 Gaussian window, sigma 1.5, population covariance (Wang et al., IEEE TIP 2004,
    eq. 13 to 17), as AMP-Net computes it.
    Both average over the positions where the window lies inside the image; nothing is rounded or downsampled.

    Both are scikit-image's. pyiqa has only the Gaussian one and sets negative structure terms to zero: within
    1e-6 above 25 dB, but 0.0007 too high on a photo blurred to 20 dB, where papers print four digits.
    """
    from skimage.metrics import structural_similarity

    x, y = _levels(estimate), _levels(truth)
    return float(structural_similarity(x, y, data_range=255, channel_axis=0, **_SSIM_OPTIONS[kind]))


def spectral_angle(estimate: torch.Tensor, truth: torch.Tensor) -> float:
    """Spectral angle between estimate and truth in degrees, the mean over pixels (SAM).

    The angle between the two spectra of a pixel as vectors of C values, whatever their lengths (Kruse et al., "The
    spectral image processing system (SIPS)", Remote Sensing of Environment 1993). Pixels whose truth is zero in all
    bands have no direction and are left out; an estimate that is zero where the truth is not counts 90.

    Raises LorunError when the truth is zero everywhere.
    """
    x, y = (_double(image).flatten(1) for image in (estimate, truth))  # (C, H*W)
    seen = (y != 0).any(dim=0)
    if not seen.any():
        raise LorunError("truth is zero everywhere: there is no spectral angle to it")
    x, y = (_directions(spectra[:, seen]) for spectra in (x, y))
    # Kahan's formula: exact for small angles, where the arc cosine of the product is not.
    angles = 2 * torch.atan2((x - y).norm(dim=0), (x + y).norm(dim=0))
    return angles.rad2deg().mean().item()


def residual(estimate: torch.Tensor, y: torch.Tensor, physics: "LinearPhysics") -> float:
    """||A x - y|| / ||y||: how far the estimate is from explaining its measurement; 0 if it does.

    y: (1, C', H', W'), made by `physics`, which is for images of the estimate's size; neither is changed.

    Raises LorunError when y is zero everywhere, or not finite.
    """
    y = _double(y)
    length = y.norm().item()
    if length == 0 or not math.isfinite(length):
        raise LorunError(f"the measurement has the norm {length:g}: there is no residual relative to it")
    with torch.no_grad():
        explained: torch.Tensor = copy.deepcopy(physics).to("cpu", torch.float64).A(_double(estimate)[None])
    return (explained - y).norm().item() / length


@cache
def _pyiqa_psnr() -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    import pyiqa  # seconds to import

    logging.getLogger("pyiqa").setLevel(logging.WARNING)  # it announces each metric it creates
    metric: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = pyiqa.create_metric(
        "psnr", device="cpu", eps=0.0, check_input_range=False
    )
    return metric


def _directions(spectra: torch.Tensor) -> torch.Tensor:
    """Columns of norm 1; those of zeros stay, at the same distance from a direction and its opposite: 90 degrees."""
    norms = spectra.norm(dim=0)
    return spectra / torch.where(norms > 0, norms, 1.0)


def _double(image: torch.Tensor) -> torch.Tensor:
    return image.detach().to("cpu", torch.float64)


def _levels(image: torch.Tensor) -> npt.NDArray[np.float64]:
    return _double(image).numpy() * 255
