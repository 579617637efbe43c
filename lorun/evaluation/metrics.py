"""What is measured, and PSNR and SSIM of one image pair, in float64 on the CPU so that no digit depends on the device.

Every function takes two finite float tensors of the same shape (C, H, W), C = 1 or 3, with values in [0, 1],
as they are: clipping, rounding, cropping and checking belong to `lorun.evaluation.protocols.score`.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch


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


@cache
def _pyiqa_psnr() -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    import pyiqa  # seconds to import

    logging.getLogger("pyiqa").setLevel(logging.WARNING)  # it announces each metric it creates
    metric: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = pyiqa.create_metric(
        "psnr", device="cpu", eps=0.0, check_input_range=False
    )
    return metric


def _double(image: torch.Tensor) -> torch.Tensor:
    return image.detach().to("cpu", torch.float64)


def _levels(image: torch.Tensor) -> npt.NDArray[np.float64]:
    return _double(image).numpy() * 255
