"""The operator that pictures are measured with, or were: the model's, or with another kernel, mask, scale, noise."""

from pathlib import Path

import torch
from torch import Tensor

from lorun.data.arrays import read_array
from lorun.data.cubes import SUFFIXES as ARRAYS
from lorun.errors import LorunError, one_of
from lorun.models import Model
from lorun.physics import Operator, read_matrix
from lorun.physics._kernels import read_kernels
from lorun.physics.blur_downsample import BlurDownsample
from lorun.physics.cassi import CASSI
from lorun.restore.photos import read_photo


def operator_of(
    model: Model,
    device: torch.device,
    *,
    scale: int | None = None,
    noise: float | None = None,
    degradation: str | None = None,
    kernel: Path | None = None,
    mask: Path | None = None,
    measured: bool = False,
) -> Operator:
    """The operator of a model with these changes, for one kernel, on a device.

    Args:
        scale, noise: options of its section.
        degradation: which of its kernels, by name, or which of those in the file `kernel`, from 1; default: the first
            of the model, or the only one of the file.
        kernel: blur kernel: .npy (h, w), .mat with the variable `kernels`, or a gray picture.
        mask: .npy, .mat with the variable `mask`, or a gray picture.
        measured: inputs are measurements, for which a computed kernel or mask will not do.

    Raises:
        LorunError: the operator has no such option, kernel or mask; a file cannot be read; measurements need a kernel
            or mask that the model may not hold.
    """
    if measured and model.replaced and kernel is None and mask is None:
        option, file = "--mask" if isinstance(model.physics, CASSI) else "--kernel", model.experiment.physics.files[0]
        raise LorunError(
            f"give {option} FILE: instead of {file}, whose licence does not let it be passed on, this model has a "
            "computed one, and that did not make these measurements"
        )
    changed = {name: value for name, value in (("scale", scale), ("noise", noise)) if value is not None}
    physics = (model.operator(**changed) if changed else model.physics).to(device)
    for option, given, takes in (("kernel", kernel, BlurDownsample), ("mask", mask, CASSI)):
        if given is not None and not isinstance(physics, takes):
            raise LorunError(f"{type(physics).__name__} has no {option}: leave out --{option}")
    if kernel is not None:
        return physics.bound(drawn=_kernel(kernel, degradation).to(physics.kernel), degradations=())
    if physics.degradations:
        return physics.under(degradation or physics.degradations[0]).bound(degradations=())
    if degradation is not None:
        raise LorunError(f"the operator of this model has no kernels to choose from: leave out {degradation!r}")
    return physics if mask is None else physics.bound(mask=_mask(mask).to(physics.mask))


def read_capture(path: Path, physics: CASSI, peak: float = 0.8) -> Tensor:
    """A capture of CASSI, (1, 1, H, W): .npy, .mat with the variable `meas`, `meas_real`, `y` or `capture`, or a gray
    picture.

    Args:
        peak: its largest value afterwards, in units of 2 / bands times the sum over bands; the default is that of the
            test scripts of TSA-Net, MST and PADUT. 0 leaves the values as they are.

    Raises:
        LorunError: the file cannot be read, or is no matrix with a positive value.
    """
    if path.suffix.lower() in ARRAYS:
        values, what = read_array(path, variables=("meas", "meas_real", "y", "capture"))
        capture = torch.from_numpy(values.astype("float32"))
    else:
        capture, what = _gray(path), str(path)
    if capture.ndim != 2 or not capture.max() > 0:
        raise LorunError(f"{what} has shape {tuple(capture.shape)}, expected height x width with a positive value")
    unit = physics.gain * physics.bands / 2
    return (capture * (peak * unit / capture.max()) if peak else capture)[None, None]


def _kernel(path: Path, degradation: str | None) -> Tensor:
    if path.suffix.lower() not in ARRAYS:
        kernel = _gray(path).double()
        if not kernel.sum() > 0:
            raise LorunError(f"{path}: a black picture is no kernel")
        return kernel / kernel.sum()
    kernels = read_kernels(path)
    names = [str(number) for number in range(1, len(kernels) + 1)]
    if degradation is None and len(kernels) > 1:
        raise LorunError(f"{path}: holds {len(kernels)} kernels: choose one with --degradation 1 to {len(kernels)}")
    return kernels[names.index(one_of("kernel", degradation or "1", names))]


def _mask(path: Path) -> Tensor:
    return read_matrix(path, "mask", transmission=True) if path.suffix.lower() in ARRAYS else _gray(path)


def _gray(path: Path) -> Tensor:
    values = read_photo(path).values
    if not (values == values[0]).all():
        raise LorunError(f"{path}: is in colour; a mask, kernel or capture is gray")
    return values[0]
