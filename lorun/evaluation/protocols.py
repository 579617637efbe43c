"""Named protocols: how a reconstruction is scored. Every score is stored with the name of its protocol.

Details matter: at 42 dB, the rounding of two papers alone makes a difference of 0.34 dB.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor

from lorun.errors import LorunError, UnknownName
from lorun.evaluation.metrics import (
    METRICS,
    SSIM_WINDOW,
    IqaMetric,
    SsimKind,
    iqa,
    psnr,
    residual,
    spectral_angle,
    ssim,
)

if TYPE_CHECKING:
    from lorun.physics import Operator

Values = Literal["as_is", "clip", "round", "truncate", "uint8", "times256"]

_VALUES: Mapping[Values, Callable[[Tensor], Tensor]] = {
    "as_is": lambda x: x,
    "clip": lambda x: x.clamp(0, 1),
    "round": lambda x: (x.clamp(0, 1) * 255).round() / 255,
    "truncate": lambda x: (x.clamp(0, 1) * 255).floor() / 255,
    "uint8": lambda x: (x.clamp(0, 1) * 255 + 0.5).floor() / 255,  # im2uint8 of MATLAB: halves go up
    "times256": lambda x: (x * 256).round() / 255,  # not clipped; the peak stays 255
}

_TOLERANCE = 1e-6  # a truth that went through float32 may leave [0, 1] by a rounding error


@dataclass(frozen=True)
class Measure:
    """One metric of a protocol, and the values it is computed on.

    metric    one of `lorun.evaluation.metrics.METRICS`
    estimate  how the estimate is prepared: `as_is` not at all, `clip` clipped to [0, 1], `round` and `truncate` clipped
              and rounded to 8 bits or truncated, `uint8` as `round` with MATLAB's im2uint8, `times256` multiplied by
              256 and rounded, without clipping, for a peak of 255
    truth     how the truth is prepared, in the same terms
    window    of the SSIM (`lorun.evaluation.metrics.ssim`)
    """

    metric: Literal["psnr", "ssim", "sam", "residual"] | IqaMetric
    estimate: Values = "clip"
    truth: Values = "as_is"
    window: SsimKind = "gaussian11"

    @property
    def side(self) -> int:
        """Height and width of the smallest image, pixels."""
        return SSIM_WINDOW[self.window] if self.metric == "ssim" else METRICS[self.metric].side


@dataclass(frozen=True)
class Protocol:
    """One way of scoring an estimate.

    name      in profiles and tables
    image     the images it is for
    measures  what is computed; the first one leads in tables
    source    the papers or programs that measure in this way
    channels  C of the images; None for any
    border    pixels cropped from each side of both images: a number, or a function of the operator's scale
    luma      whether RGB is converted to Y of YCbCr (`studio_luma`), after rounding
    by_band   whether PSNR and SSIM are computed for each channel and averaged, instead of one mean over all values
    """

    name: str
    image: str
    measures: tuple[Measure, ...]
    source: str
    channels: int | None = 1
    border: int | Literal["scale", "scale**2"] = 0
    luma: bool = False
    by_band: bool = False

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of its metrics, in the order of tables."""
        return tuple(measure.metric for measure in self.measures)

    @property
    def needs_truth(self) -> bool:
        """Whether it compares the estimate with a truth."""
        return set(self.metrics) != {"residual"}

    @property
    def needs_measurement(self) -> bool:
        """Whether it compares the estimate with the measurement."""
        return "residual" in self.metrics

    def border_at(self, scale: int | None) -> int:
        """The border in pixels for an operator of that scale.

        Raises:
            LorunError: the border depends on the scale, and `scale` is None.
        """
        if isinstance(self.border, int):
            return self.border
        if scale is None:
            raise LorunError(f"{self.name} crops a border of {self.border} pixels: give the scale")
        return scale**2 if self.border == "scale**2" else scale


class Measurement(NamedTuple):
    """y (1, C', H', W') and the physics that made it, for images of the estimate's size; on any device."""

    y: Tensor
    physics: "Operator"


_GRAY = "8-bit gray, or Y of YCrCb in full range 0..255 (OpenCV), divided by 255"
_RGB = "8-bit RGB, divided by 255"
_CUBE = "28 spectral bands from 453.3 to 648.1 nm in [0, 1]"

_MATLAB = "Cal_quality_assessment.m, whose im2uint8 rounds"


_IQA = tuple(
    Measure(name, "round")
    for name in ("psnr", "ssim", "ms_ssim", "gmsd", "fsim", "vif", "nlpd")  # on saved images
)
_IQA_SOURCE = (
    "saved 8-bit images; pyiqa's defaults for MS-SSIM (Wang et al., Asilomar 2003), GMSD (Xue et al., TIP 2014), FSIM "
    "(Zhang et al., TIP 2011), VIF (Sheikh and Bovik, TIP 2006), NLPD (Laparra et al., EI 2016): "
    "github.com/chaofengc/IQA-PyTorch"
)


def _psnr_ssim(estimate: Values, window: SsimKind, truth: Values = "as_is") -> tuple[Measure, ...]:
    return Measure("psnr", estimate, truth), Measure("ssim", estimate, truth, window)


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="cs_float_y",
            image=_GRAY,
            measures=_psnr_ssim("clip", "uniform7"),
            source="ISTA-Net(+), its family and FSOINet: github.com/jianzhangcs/ISTA-Net-PyTorch",
        ),
        Protocol(
            name="cs_round_y",
            image=_GRAY,
            measures=_psnr_ssim("round", "gaussian11"),
            source="saved 8-bit images, as the demo of CSNet (ICME 2017): github.com/wzhshi/CSNet",
        ),
        Protocol(
            name="cs_truncate_y",
            image=_GRAY,
            measures=_psnr_ssim("truncate", "gaussian11"),
            source="AMP-Net (IEEE TIP 2021): github.com/ZhonghaoZ/AMP-Net_TIP",
        ),
        Protocol(
            name="cassi_mst_uint8",
            image=_CUBE,
            measures=(*_psnr_ssim("uint8", "gaussian11", truth="uint8"), Measure("sam")),
            source=f"MST (CVPR 2022), RDLUF (CVPR 2023): {_MATLAB}: github.com/caiyuanhao1998/MST",
            channels=28,
            by_band=True,
        ),
        Protocol(
            name="cassi_float_x255",
            image=_CUBE,
            measures=(*_psnr_ssim("clip", "gaussian11"), Measure("sam")),
            source="PADUT (ICCV 2023): Cal_quality_assessment.m without im2uint8: github.com/MyuLi/PADUT",
            channels=28,
            by_band=True,
        ),
        Protocol(
            name="cassi_dpu",
            image=_CUBE,
            measures=(Measure("psnr"), Measure("ssim", "uint8", "uint8"), Measure("sam")),
            source="DPU (CVPR 2024), SSR: cal_psnr_ssim.m, whose im2uint8 rounds: github.com/ZhangJC-2k/DPU",
            channels=28,
            by_band=True,
        ),
        Protocol(
            name="cassi_torch_psnr",
            image=_CUBE,
            measures=(Measure("psnr", "times256", "times256"),),
            source="MST while it trains: torch_psnr of simulation/train_code: github.com/caiyuanhao1998/MST",
            channels=28,
            by_band=True,
        ),
        Protocol(
            name="usrnet_rgb",
            image=_RGB,
            measures=_psnr_ssim("round", "gaussian11"),
            source="USRNet (CVPR 2020), Table 1: main_test_table1.py: github.com/cszn/USRNet",
            channels=3,
            border="scale**2",
        ),
        Protocol(
            name="sr_y",
            image=_RGB,
            measures=_psnr_ssim("round", "gaussian11"),
            source="Y of saved 8-bit images, not rounded again: EDSR, BasicSR: github.com/XPixelGroup/BasicSR",
            channels=3,
            border="scale",
            luma=True,
        ),
        Protocol(
            name="sr_gray",
            image=_GRAY,
            measures=_psnr_ssim("round", "gaussian11"),
            source="as sr_y, for gray images, which are Y already",
            border="scale",
        ),
        Protocol(name="iqa_gray", image=_GRAY, measures=_IQA, source=_IQA_SOURCE),
        Protocol(name="iqa_rgb", image=_RGB, measures=_IQA, source=_IQA_SOURCE, channels=3),
        Protocol(
            name="measurement_residual",
            image="any, with or without a truth",
            measures=(Measure("residual"),),
            source="the only score that real captures have",
            channels=None,
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol of that name; raises UnknownName with the choices."""
    try:
        return PROTOCOLS[name]
    except KeyError:
        raise UnknownName("protocol", name, PROTOCOLS) from None


def score(
    protocol: Protocol,
    estimate: Tensor,
    truth: Tensor | None = None,
    measurement: Measurement | None = None,
    scale: int | None = None,
) -> dict[str, float]:
    """Score one estimate: the protocol's metrics by name.

    Estimate and truth are (C, H, W) tensors of any floating dtype on any device. The truth lies in [0, 1], the estimate
    may leave it. A protocol that needs no truth needs the measurement. `scale` is that of the operator, for protocols
    whose border depends on it.

    Where PSNR is averaged over bands, each band has the limit `metrics.PSNR_LIMIT`: a perfect band counts 80 dB, where
    the scripts of the papers give infinity. The peak is that of the range, not that of the band.

    Raises LorunError when the dtype is not floating, the shapes differ, C is not the protocol's, the cropped
    image is smaller than a metric needs, a value is NaN or infinite, or the truth leaves [0, 1]; when the truth,
    measurement or scale that the protocol needs is missing; and as the metrics do.
    """
    border = protocol.border_at(scale)
    estimate = _checked("estimate", estimate)
    if protocol.needs_truth:
        if truth is None:
            raise LorunError(f"{protocol.name} compares with a truth, and there is none")
        truth = _checked("truth", truth)
        _check_shapes(protocol, border, tuple(estimate.shape), tuple(truth.shape))
        _check_range(truth)
    if protocol.needs_measurement and measurement is None:
        raise LorunError(f"{protocol.name} compares with the measurement, and there is none")
    return {
        measure.metric: _value(protocol, measure, border, estimate, truth, measurement) for measure in protocol.measures
    }


def studio_luma(rgb: Tensor) -> Tensor:
    """Y of YCbCr as MATLAB's rgb2ycbcr (BT.601, 16 to 235 of 255): (3, H, W) -> (1, H, W), both divided by 255."""
    red, green, blue = rgb.split(1)
    return (16 + 65.481 * red + 128.553 * green + 24.966 * blue) / 255


def _value(
    protocol: Protocol,
    measure: Measure,
    border: int,
    estimate: Tensor,
    truth: Tensor | None,
    measurement: Measurement | None,
) -> float:
    estimate = _VALUES[measure.estimate](estimate)
    if truth is None or measure.metric == "residual":
        assert measurement is not None
        return residual(estimate, *measurement)
    truth = _VALUES[measure.truth](truth)
    estimate, truth = _cropped(estimate, border), _cropped(truth, border)
    if protocol.luma:
        estimate, truth = studio_luma(estimate), studio_luma(truth)
    if measure.metric == "sam":
        return spectral_angle(estimate, truth)
    if measure.metric in get_args(IqaMetric):
        return iqa(estimate, truth, cast(IqaMetric, measure.metric))
    if measure.metric == "ssim":
        return ssim(estimate, truth, measure.window)  # a mean over channels anyway
    if not protocol.by_band:
        return psnr(estimate, truth)
    return fmean(psnr(one, other) for one, other in zip(estimate.split(1), truth.split(1), strict=True))


def _checked(what: str, image: Tensor) -> Tensor:
    if not image.is_floating_point():
        # integers are grey levels 0..255, which clipping to [0, 1] would turn white
        raise LorunError(f"{what} has dtype {image.dtype}, expected floating point values in [0, 1]")
    image = image.detach().to("cpu", torch.float64)
    bad = image.numel() - int(image.isfinite().sum())
    if bad:
        raise LorunError(f"{what} has {bad} NaN or infinite values of {image.numel()}")
    return image


def _check_shapes(protocol: Protocol, border: int, estimate: tuple[int, ...], truth: tuple[int, ...]) -> None:
    if estimate != truth:
        raise LorunError(f"estimate has shape {estimate}, but truth has shape {truth}")
    if len(truth) != 3 or truth[0] != protocol.channels:
        raise LorunError(f"images have shape {truth}, but {protocol.name} scores ({protocol.channels}, H, W)")
    largest = max(protocol.measures, key=lambda measure: measure.side)
    if min(truth[1:]) - 2 * border < largest.side:
        raise LorunError(
            f"images of {truth[1]}x{truth[2]} px with a border of {border} px cropped are smaller than the "
            f"{largest.side}x{largest.side} px that {METRICS[largest.metric].title} of {protocol.name} needs"
        )


def _check_range(truth: Tensor) -> None:
    low, high = truth.min().item(), truth.max().item()
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise LorunError(f"truth has values from {low:g} to {high:g}, expected [0, 1]")


def _cropped(image: Tensor, border: int) -> Tensor:
    _, height, width = image.shape
    return image[:, border : height - border, border : width - border]
