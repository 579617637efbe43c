"""The metrics of one image, computed on the CPU so that no digit depends on the device.

Every function takes finite float tensors (C, H, W) of the same shape with values in [0, 1]. It does not clip, round,
crop or check them: `lorun.evaluation.protocols.score` does. All metrics are computed in float64, except VIF, which
pyiqa computes in float32 only.
"""

import copy
import importlib
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

import torch

from lorun.errors import LorunError

if TYPE_CHECKING:
    from deepinv.physics import LinearPhysics


@dataclass(frozen=True)
class Metric:
    """How tables and figures show a metric.

    name    in rows and columns
    title   in tables and figures
    unit    "" for none
    digits  decimals in tables
    side    height and width of the smallest image in pixels (of SSIM: see `SSIM_WINDOW`)
    """

    name: str
    title: str
    unit: str
    better: Literal["higher", "lower"]
    digits: int
    side: int = 1

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
        Metric("ms_ssim", "MS-SSIM", "", "higher", 4, side=161),
        Metric("gmsd", "GMSD", "", "lower", 4, side=4),
        Metric("fsim", "FSIM", "", "higher", 4, side=2),
        Metric("vif", "VIF", "", "higher", 4, side=33),
        Metric("nlpd", "NLPD", "", "lower", 4),
        Metric("residual", "residual", "ratio", "lower", 4),
    )
}
"""All metrics, in the order of the tables' columns."""

PSNR_LIMIT = 80.0
"""dB. All mean squared errors below 1e-8 score this, so that a perfect image has a finite PSNR."""

SsimKind = Literal["uniform7", "gaussian11"]

SSIM_WINDOW: dict[SsimKind, int] = {"uniform7": 7, "gaussian11": 11}
"""Side of the window in pixels, which is also that of the smallest image."""

IqaMetric = Literal["ms_ssim", "gmsd", "fsim", "vif", "nlpd"]
"""Full-reference metrics of pyiqa that need no weights."""

_SSIM_OPTIONS: dict[SsimKind, dict[str, bool | float]] = {
    "uniform7": {"win_size": 7, "gaussian_weights": False, "use_sample_covariance": True},
    # sigma 1.5 truncated at scikit-image's 3.5 sigma is the 11x11 window
    "gaussian11": {"sigma": 1.5, "gaussian_weights": True, "use_sample_covariance": False},
}


def psnr(estimate: torch.Tensor, truth: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(1 / MSE) over all C*H*W values, at most `PSNR_LIMIT`.

    C is 1 or 3. Computed by pyiqa with eps=0: its default adds 1e-8 to the MSE, which costs 0.04 dB at 60 dB.
    """
    value = _pyiqa("psnr", eps=0.0)(_double(estimate)[None], _double(truth)[None])
    return min(value.item(), PSNR_LIMIT)


def ssim(estimate: torch.Tensor, truth: torch.Tensor, kind: SsimKind) -> float:
    """Mean structural similarity in [-1, 1], peak 255 on the values times 255, averaged over the channels.

    `uniform7`: 7x7 uniform window and sample covariance, scikit-image's default (ISTA-Net and its family).
    `gaussian11`: 11x11 Gaussian window, sigma 1.5, population covariance (Wang et al., IEEE TIP 2004,
    eq. 13 to 17), as AMP-Net computes it.
    Both average over the positions where the window lies inside the image.

    Both are computed by scikit-image. pyiqa has only the Gaussian one and sets negative structure terms to zero, which
    gives 0.0007 too much on a photo blurred to 20 dB.
    """
    from skimage.metrics import structural_similarity

    x, y = (_double(image).numpy() * 255 for image in (estimate, truth))
    return float(structural_similarity(x, y, data_range=255, channel_axis=0, **_SSIM_OPTIONS[kind]))


def iqa(estimate: torch.Tensor, truth: torch.Tensor, name: IqaMetric) -> float:
    """A full-reference metric of pyiqa with its defaults, which follow the MATLAB code of the authors.

    C is 1 or 3. A gray image is scored as an RGB image with three equal channels. MS-SSIM, GMSD and VIF are those of
    the luma (Y of YIQ, rounded to 8 bits), NLPD is that of the luma without rounding. FSIM is FSIMc: it also compares
    the chrominance (I and Q), which a gray image does not have. VIF is computed in float32, the others in float64. The
    VIF of a constant truth is 0, since such an image has no information. `protocols.PROTOCOLS` names the papers.
    """
    dtype = torch.float32 if name == "vif" else torch.float64
    x, y = (_double(image).to(dtype).expand(3, -1, -1)[None] for image in (estimate, truth))
    return _pyiqa(name).to(dtype)(x, y).item()


def spectral_angle(estimate: torch.Tensor, truth: torch.Tensor) -> float:
    """Spectral angle between estimate and truth in degrees, the mean over pixels (SAM).

    The angle between the spectra of a pixel as vectors of C values (Kruse et al., Remote Sensing of Environment 1993).
    Pixels whose truth is zero in all bands are left out. An estimate that is zero where the truth is not counts as 90.

    Raises LorunError when the truth is zero everywhere.
    """
    x, y = (_double(image).flatten(1) for image in (estimate, truth))  # (C, H*W)
    seen = (y != 0).any(dim=0)
    if not seen.any():
        raise LorunError("truth is zero everywhere: the spectral angle is undefined")
    x, y = (_directions(spectra[:, seen]) for spectra in (x, y))
    # Kahan's formula: exact for small angles, where the arc cosine of the product is not.
    angles = 2 * torch.atan2((x - y).norm(dim=0), (x + y).norm(dim=0))
    return angles.rad2deg().mean().item()


def residual(estimate: torch.Tensor, y: torch.Tensor, physics: "LinearPhysics") -> float:
    """||A x - y|| / ||y||: the part of the measurement that the estimate does not explain.

    y: (1, C', H', W'), made by `physics`, which is for images of the estimate's size; neither is changed.

    Raises LorunError when y is zero everywhere or not finite.
    """
    y = _double(y)
    length = y.norm().item()
    if length == 0 or not math.isfinite(length):
        raise LorunError(f"the measurement has the norm {length:g}: the residual is relative to it, so undefined")
    with torch.no_grad():
        explained: torch.Tensor = copy.deepcopy(physics).to("cpu", torch.float64).A(_double(estimate)[None])
    return (explained - y).norm().item() / length


@cache
def _pyiqa(name: str, **options: float) -> torch.nn.Module:
    import pyiqa  # takes seconds

    if name == "ms_ssim":  # in the module of SSIM; without this import pyiqa loads all of its networks to find it
        importlib.import_module("pyiqa.archs.ssim_arch")

    logging.getLogger("pyiqa").setLevel(logging.WARNING)  # it announces each metric it creates
    metric: torch.nn.Module = pyiqa.create_metric(name, device="cpu", check_input_range=False, **options)
    return metric


def _directions(spectra: torch.Tensor) -> torch.Tensor:
    """Columns scaled to norm 1. A column of zeros stays zero, so that its angle to any direction comes out as 90."""
    norms = spectra.norm(dim=0)
    return spectra / torch.where(norms > 0, norms, 1.0)


def _double(image: torch.Tensor) -> torch.Tensor:
    return image.detach().to("cpu", torch.float64)
