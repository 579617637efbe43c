"""Named protocols: how a reconstruction is scored. Every score is stored with the name of its protocol.

At 42 dB, the difference between the rounding of two papers is 0.34 dB.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor

from lorun import extensions
from lorun.errors import LorunError, UnknownName
from lorun.evaluation import metrics
from lorun.evaluation.metrics import METRICS, SSIM_WINDOW, IqaMetric, SsimKind

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
_IQA_SOURCE = (
    "saved 8-bit images; pyiqa's defaults for MS-SSIM (Wang et al., Asilomar 2003), GMSD (Xue et al., TIP 2014), FSIM "
    "(Zhang et al., TIP 2011), VIF (Sheikh and Bovik, TIP 2006), NLPD (Laparra et al., EI 2016): "
    "github.com/chaofengc/IQA-PyTorch"
)


def _psnr_ssim(estimate: Values, window: SsimKind, truth: Values = "as_is") -> tuple[Measure, ...]:
    return Measure("psnr", estimate, truth), Measure("ssim", estimate, truth, window)


_IQA = (*_psnr_ssim("round", "gaussian11"), *(Measure(name, "round") for name in get_args(IqaMetric)))

_CS = partial(Protocol, image=_GRAY)
_CASSI = partial(Protocol, image=_CUBE, channels=28, by_band=True)

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        _CS(
            name="cs_float_y",
            measures=_psnr_ssim("clip", "uniform7"),
            source="ISTA-Net(+), its family and FSOINet: github.com/jianzhangcs/ISTA-Net-PyTorch",
        ),
        _CS(
            name="cs_round_y",
            measures=_psnr_ssim("round", "gaussian11"),
            source="saved 8-bit images, as the demo of CSNet (ICME 2017): github.com/wzhshi/CSNet",
        ),
        _CS(
            name="cs_truncate_y",
            measures=_psnr_ssim("truncate", "gaussian11"),
            source="AMP-Net (IEEE TIP 2021): github.com/ZhonghaoZ/AMP-Net_TIP",
        ),
        _CASSI(
            name="cassi_mst_uint8",
            measures=(*_psnr_ssim("uint8", "gaussian11", truth="uint8"), Measure("sam")),
            source="MST (CVPR 2022), RDLUF (CVPR 2023), with the im2uint8 of MATLAB: github.com/caiyuanhao1998/MST",
        ),
        _CASSI(
            name="cassi_float_x255",
            measures=(*_psnr_ssim("clip", "gaussian11"), Measure("sam")),
            source="PADUT (ICCV 2023): Cal_quality_assessment.m without im2uint8: github.com/MyuLi/PADUT",
        ),
        _CASSI(
            name="cassi_dpu",
            measures=(Measure("psnr"), Measure("ssim", "uint8", "uint8"), Measure("sam")),
            source="DPU (CVPR 2024), SSR: cal_psnr_ssim.m, whose im2uint8 rounds: github.com/ZhangJC-2k/DPU",
        ),
        _CASSI(
            name="cassi_torch_psnr",
            measures=(Measure("psnr", "times256", "times256"),),
            source="MST while it trains: torch_psnr of simulation/train_code: github.com/caiyuanhao1998/MST",
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
    """The protocol of that name, of the suite or of an installed package.

    Raises:
        UnknownName: there is none.
        LorunError: a package declares it, but has no such `Protocol`.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    entry = extensions.find("protocol", name)
    if entry is None:
        raise UnknownName("protocol", name, [*PROTOCOLS, *(one.name for one in extensions.declared("protocol"))])
    where = f"protocol {name!r}: the entry point {entry.value!r} of {extensions.owner(entry)}"
    try:
        found = entry.load()
    except (ImportError, AttributeError) as error:
        raise LorunError(f"{where} cannot be loaded: {error}") from error
    if not isinstance(found, Protocol) or found.name != name:
        raise LorunError(f"{where} is no `Protocol` with this name")
    return found


def score(
    protocol: Protocol,
    estimate: Tensor,
    truth: Tensor | None = None,
    measurement: Measurement | None = None,
    scale: int | None = None,
) -> dict[str, float]:
    """Score one estimate: the protocol's metrics by name.

    Estimate and truth are (C, H, W) tensors of any floating dtype on any device. The truth lies in [0, 1], the estimate
    may leave it. `scale` is that of the operator, for protocols whose border depends on it.

    A PSNR by bands has the limit `metrics.PSNR_LIMIT` in each band, where the scripts of the papers give infinity.

    Raises LorunError when the truth, measurement or scale that the protocol needs is missing; when the dtype is not
    floating, shapes differ, or the number of channels is not that of the protocol; when the cropped image is too small
    for a metric; when a value is NaN or infinite, or the truth leaves [0, 1]; and as the metrics do.
    """
    border = protocol.border_at(scale)
    estimate = _checked("estimate", estimate)
    if protocol.needs_truth:
        if truth is None:
            raise LorunError(f"{protocol.name} needs a truth, and there is none")
        truth = _checked("truth", truth)
        _check_pair(protocol, border, estimate, truth)
    if "residual" in protocol.metrics and measurement is None:
        raise LorunError(f"{protocol.name} needs the measurement, and there is none")
    return {one.metric: _value(protocol, one, border, estimate, truth, measurement) for one in protocol.measures}


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
        return metrics.residual(estimate, *measurement)
    inside = slice(border, -border or None)
    x, y = (image[:, inside, inside] for image in (estimate, _VALUES[measure.truth](truth)))
    if protocol.luma:
        x, y = studio_luma(x), studio_luma(y)
    if measure.metric == "sam":
        return metrics.spectral_angle(x, y)
    if measure.metric in get_args(IqaMetric):
        return metrics.iqa(x, y, cast(IqaMetric, measure.metric))
    if measure.metric == "ssim":
        return metrics.ssim(x, y, measure.window)  # a mean over channels anyway
    pairs = zip(x.split(1), y.split(1), strict=True) if protocol.by_band else [(x, y)]
    return fmean(metrics.psnr(*pair) for pair in pairs)


def _checked(what: str, image: Tensor) -> Tensor:
    if not image.is_floating_point():
        # integers are grey levels 0..255, which clipping to [0, 1] would turn white
        raise LorunError(f"{what} has dtype {image.dtype}, expected floating point values in [0, 1]")
    image = image.detach().to("cpu", torch.float64)
    bad = image.numel() - int(image.isfinite().sum())
    if bad:
        raise LorunError(f"{what} has {bad} NaN or infinite values of {image.numel()}")
    return image


def _check_pair(protocol: Protocol, border: int, estimate: Tensor, truth: Tensor) -> None:
    shape = tuple(truth.shape)
    if estimate.shape != truth.shape:
        raise LorunError(f"estimate has shape {tuple(estimate.shape)}, but truth has shape {shape}")
    if len(shape) != 3 or shape[0] != protocol.channels:
        raise LorunError(f"images have shape {shape}, but {protocol.name} scores ({protocol.channels}, H, W)")
    largest = max(protocol.measures, key=lambda measure: measure.side)
    if min(shape[1:]) - 2 * border < largest.side:
        raise LorunError(
            f"images of {shape[1]}x{shape[2]} px with a border of {border} px cropped are smaller than the "
            f"{largest.side}x{largest.side} px that {METRICS[largest.metric].title} of {protocol.name} needs"
        )
    low, high = truth.min().item(), truth.max().item()
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise LorunError(f"truth has values from {low:g} to {high:g}, expected [0, 1]")
