"""`lorun restore`: pictures or measurements in, restored pictures out."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from lorun.cli.models import AModel
from lorun.cli.options import Device
from lorun.errors import LorunError, one_of


def restore(
    model: AModel,
    inputs: Annotated[list[Path], Argument(help="Pictures (or cubes, .mat or .npy), or folders of them.")],
    out: Annotated[Path | None, Option(help="Folder of the restored pictures; default: restored/MODEL.")] = None,
    measured: Annotated[bool, Option("--measured", help="Inputs are degraded pictures, or captures of CASSI.")] = False,
    kernel: Annotated[Path | None, Option(help="Blur kernel: .npy, .mat with `kernels`, or a gray picture.")] = None,
    mask: Annotated[Path | None, Option(help="Mask of CASSI: .npy, .mat with `mask`, or a gray picture.")] = None,
    degradation: Annotated[str | None, Option(help="Kernel, by its name or number; default: the first.")] = None,
    scale: Annotated[int | None, Option(min=1, max=8, help="Of super-resolution, instead of the model's.")] = None,
    noise: Annotated[
        float | None, Option(min=0, max=255, help="Standard deviation, of 255; default: the model's.")
    ] = None,
    peak: Annotated[float, Option(min=0, help="Largest value of a capture, in the scale of MST; 0: as it is.")] = 0.8,
    tile: Annotated[int, Option(min=0, help="Side of tiles, pixels; less needs less memory; 0: no tiles.")] = 1024,
    cubes: Annotated[str, Option(help="Format of restored cubes: npy or mat.")] = "npy",
    sheet: Annotated[bool, Option("--sheet", help="Write NAME.sheet.png: before and after.")] = False,
    force: Annotated[bool, Option("--force", help="Replace outputs that exist; without it they are kept.")] = False,
    device: Device = "auto",
) -> None:
    """Restore pictures with a model, into PNG files; cubes into .npy or .mat files as well.

    Each picture is measured as the model was trained for, and restored from that measurement; the PSNR is printed.
    With --measured the inputs are the measurements:

    lorun restore sr-desk-lorun --measured --kernel kernel.png small.png

    lorun restore cassi-desk-lorun --measured --mask mask.mat capture.mat
    """
    from lorun.devices import pick_device
    from lorun.models import from_pretrained
    from lorun.models.model import locate
    from lorun.restore.files import Options, inputs_of, listing, restore_files
    from lorun.restore.operators import operator_of
    from lorun.restore.restoring import Restorer

    chosen, place = pick_device(device), locate(model)
    options = Options(
        out=out or Path("restored", Path(place).resolve().name),
        measured=measured,
        peak=peak,
        cubes=one_of("format", cubes, ["npy", "mat"]),
        sheet=sheet,
        force=force,
    )
    loaded = from_pretrained(model).to(chosen)
    physics = operator_of(
        loaded, chosen, scale=scale, noise=noise, degradation=degradation, kernel=kernel, mask=mask, measured=measured
    )
    files = inputs_of(inputs, loaded.experiment.channels)
    lines, failed = restore_files(files, Restorer(loaded, physics, chosen, tile), options)
    if lines:
        typer.echo(listing(lines))
    if failed == len(files) == 1:
        raise typer.Exit(1)
    if failed:
        raise LorunError(f"{failed} of {len(files)} could not be restored")
