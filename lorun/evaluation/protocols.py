"""Named ways of scoring a reconstruction, so that every number says how it was measured.

At 42 dB two papers' ways of rounding alone are 0.34 dB apart. A later task adds its own
`Protocol` to the registry, or derives one with `dataclasses.replace(protocol, border=scale**2)`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from lorun.errors import LorunError, UnknownName
from lorun.evaluation.metrics import SSIM_WINDOW, SsimKind, psnr, ssim

Before = Literal["clip", "round", "truncate"]

_BEFORE: dict[Before, Callable[[torch.Tensor], torch.Tensor]] = {
    "clip": lambda x: x,
    "round": lambda x: (x * 255).round() / 255,
    "truncate": lambda x: (x * 255).floor() / 255,
}

_TOLERANCE = 1e-6  # a truth that went through float32 may leave [0, 1] by a rounding error


@dataclass(frozen=True)
class Protocol:
    """One way of scoring an estimate against its truth.

    name      how tables call it
    image     what both images show; the caller converts, nothing here changes colour
    before    what is done to the estimate (never to the truth): clip to [0, 1], then nothing,
              round or truncate to 8-bit integers
    ssim      which SSIM (`lorun.evaluation.metrics.ssim`)
    source    who measures so
    metrics   what it gives (`lorun.evaluation.metrics.METRICS`); tables lead with the first
    channels  C of both images
    border    pixels cropped from each side of both images
    """

    name: str
    image: str
    before: Before
    ssim: SsimKind
    source: str
    metrics: tuple[str, ...] = ("psnr", "ssim")
    channels: int = 1
    border: int = 0


_GRAY = "8-bit gray, or Y of YCrCb in full range 0..255 (OpenCV), divided by 255"

PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="cs_float_y",
            image=_GRAY,
            before="clip",
            ssim="uniform7",
            source="ISTA-Net(+), its family and FSOINet: github.com/jianzhangcs/ISTA-Net-PyTorch",
        ),
        Protocol(
            name="cs_round_y",
            image=_GRAY,
            before="round",
            ssim="gaussian11",
            source="saved 8-bit images, as the demo of CSNet (ICME 2017): github.com/wzhshi/CSNet",
        ),
        Protocol(
            name="cs_truncate_y",
            image=_GRAY,
            before="truncate",
            ssim="gaussian11",
            source="AMP-Net (IEEE TIP 2021): github.com/ZhonghaoZ/AMP-Net_TIP",
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol of that name; raises UnknownName with the choices."""
    try:
        return PROTOCOLS[name]
    except KeyError:
        raise UnknownName("protocol", name, PROTOCOLS) from None


def score(protocol: Protocol, estimate: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    """Score one estimate: `psnr` in dB (at most 80, see `metrics.PSNR_LIMIT`) and `ssim`.

    Both are (C, H, W) tensors of any floating dtype on any device; the computation is float64 on the CPU. The
    truth lies in [0, 1], the estimate may leave it.

    Raises LorunError when the dtype is not floating, the shapes differ, C is not the protocol's, the cropped
    image is smaller than the SSIM window, a value is NaN or infinite, or the truth leaves [0, 1].
    """
    estimate, truth = _checked("estimate", estimate), _checked("truth", truth)
    _check_shapes(protocol, tuple(estimate.shape), tuple(truth.shape))
    _check_range(truth)

    estimate = _BEFORE[protocol.before](estimate.clamp(0, 1))
    estimate, truth = _cropped(estimate, protocol.border), _cropped(truth, protocol.border)
    return {"psnr": psnr(estimate, truth), "ssim": ssim(estimate, truth, protocol.ssim)}


def _checked(what: str, image: torch.Tensor) -> torch.Tensor:
    if not image.is_floating_point():
        # integers are grey levels 0..255: clipping to [0, 1] would turn them white without a word
        raise LorunError(f"{what} has dtype {image.dtype}, expected floating point values in [0, 1]")
    image = image.detach().to("cpu", torch.float64)
    bad = image.numel() - int(image.isfinite().sum())
    if bad:
        raise LorunError(f"{what} has {bad} NaN or infinite values of {image.numel()}")
    return image


def _check_shapes(protocol: Protocol, estimate: tuple[int, ...], truth: tuple[int, ...]) -> None:
    if estimate != truth:
        raise LorunError(f"estimate has shape {estimate}, but truth has shape {truth}")
    if len(truth) != 3 or truth[0] != protocol.channels:
        raise LorunError(f"images have shape {truth}, but {protocol.name} scores ({protocol.channels}, H, W)")
    window, border = SSIM_WINDOW[protocol.ssim], protocol.border
    if min(truth[1:]) - 2 * border < window:
        raise LorunError(
            f"images of {truth[1]}x{truth[2]} px with a border of {border} px cropped are smaller than "
            f"the {window}x{window} SSIM window of {protocol.name}"
        )


def _check_range(truth: torch.Tensor) -> None:
    low, high = truth.min().item(), truth.max().item()
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        raise LorunError(f"truth has values from {low:g} to {high:g}, expected [0, 1]")


def _cropped(image: torch.Tensor, border: int) -> torch.Tensor:
    _, height, width = image.shape
    return image[:, border : height - border, border : width - border]
