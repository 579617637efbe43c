"""Restore files: one after the other, each on its own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Literal, NamedTuple

from tabulate import tabulate
from torch import Tensor

from lorun.data.cubes import SUFFIXES as CUBES
from lorun.data.listing import files_in
from lorun.errors import LorunError
from lorun.evaluation import metrics
from lorun.memory import refuse_too_large
from lorun.physics.cassi import CASSI
from lorun.restore.operators import read_capture
from lorun.restore.photos import (
    BANDS,
    PHOTOS,
    as_before,
    in_channels,
    read_photo,
    read_picture,
    write_cube,
    write_photo,
    write_sheet,
)
from lorun.restore.restoring import Restorer

_BYTES, _SHEET = 50, 40
"""Memory for each pixel and channel of a picture, besides that for a tile; and more for a sheet."""


class Options(NamedTuple):
    """What is read and written: with `measured`, inputs are measurements, for `peak` see
    `lorun.restore.operators.read_capture`; without `force`, outputs that exist are kept."""

    out: Path
    measured: bool = False
    peak: float = 0.8
    cubes: Literal["npy", "mat"] = "npy"
    sheet: bool = False
    force: bool = False


class Line(NamedTuple):
    """What was written. Where there is a truth, `psnr` is that of the restored picture in dB, and `psnr_measurement`
    that of what the measurement alone gives."""

    output: Path
    height: int
    width: int
    psnr_measurement: float | None
    psnr: float | None


def inputs_of(paths: Iterable[Path], channels: int) -> list[Path]:
    """The files that are named, and those in the folders that are named, sorted by name.

    Raises:
        LorunError: a folder has no pictures; as `lorun.data.listing.files_in`.
    """
    suffixes = (*CUBES, *PHOTOS) if channels == BANDS else PHOTOS
    found: list[Path] = []
    for path in paths:
        inside = files_in(path, [f"*{suffix}" for suffix in suffixes]) if path.is_dir() else [path]
        if not inside:
            raise LorunError(f"{path}: no pictures in this folder: looked for {', '.join(suffixes)}")
        found += inside
    return list(dict.fromkeys(found))


def restore_files(inputs: Sequence[Path], restorer: Restorer, options: Options) -> tuple[list[Line], int]:
    """Restore pictures, or measurements, and write them as OUT/NAME.png, cubes as .npy or .mat too.

    A file that cannot be restored is reported on standard error, and the others are restored. On a terminal, a bar
    shows how far it is.

    Returns:
        The lines of the pictures that were restored, and how many files could not be.

    Raises:
        LorunError: two inputs have one output; an output is an input.
    """
    from rich.console import Console
    from rich.progress import Progress

    outputs = _outputs(inputs, restorer.model.experiment.channels == BANDS, options)
    console = Console(stderr=True)
    done: list[Line] = []
    failed = 0
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("pictures", total=len(inputs))

        def say(text: str) -> None:
            console.print(_printable(text), markup=False, highlight=False, emoji=False, soft_wrap=True)

        for number, path in enumerate(inputs):

            def advance(share: float, before: int = number) -> None:
                bar.update(task, completed=before + share)

            existing = [output for output in outputs[path].values() if output.exists()]
            if existing and not options.force:
                say(f"{existing[0]}: exists and is kept; --force replaces it")
                continue
            try:
                done.append(_restore(path, outputs[path], restorer, options, advance))
            except LorunError as error:
                failed += 1
                say(f"error: {error}")
    return done, failed


def listing(lines: Sequence[Line]) -> str:
    """What was restored, as a table."""
    rows = [[_printable(str(line.output)), f"{line.width} x {line.height}"] for line in lines]
    titles = ["output", "pixels"]
    if all(line.psnr is not None for line in lines):
        titles += ["measurement alone, dB", "restored, dB"]
        for row, line in zip(rows, lines, strict=True):
            row += [f"{line.psnr_measurement:.2f}", f"{line.psnr:.2f}"]
    return tabulate(rows, titles, "plain", disable_numparse=True)


def psnr(estimate: Tensor, truth: Tensor) -> float:
    """PSNR of images (C, H, W) in dB, clipped to [0, 1]; of a cube the mean over its bands. At most 80."""
    image = estimate.clamp(0, 1)
    if len(truth) != BANDS:
        return metrics.psnr(image, truth)
    return mean(metrics.psnr(*bands) for bands in zip(image.split(1), truth.split(1), strict=True))


def _restore(
    path: Path, outputs: Mapping[str, Path], restorer: Restorer, options: Options, advance: Callable[[float], None]
) -> Line:
    channels = restorer.model.experiment.channels
    truth, profile = None, None
    if options.measured and isinstance(restorer.physics, CASSI):
        shown, before = BANDS, read_capture(path, restorer.physics, options.peak)
    else:
        picture = read_photo(path) if options.measured else read_picture(path, channels)
        shown, before, profile = len(picture.values), in_channels(picture.values, channels), picture.profile
        truth = None if options.measured else picture.values
    need = (_BYTES + options.sheet * _SHEET) * before.numel()
    refuse_too_large(f"{path}: restoring {before.shape[2]} x {before.shape[3]} pixels", need)
    restored = restorer.measured(before, advance) if options.measured else restorer.simulated(before, advance)
    estimate, initial = as_before(restored.estimate, shown), as_before(restored.initial, shown)
    scores = [None if truth is None else psnr(image, truth) for image in (initial, estimate)]
    if options.sheet:
        panels = {} if truth is None else {"picture": truth}
        for title, image, score in zip(("measurement alone", "restored"), (initial, estimate), scores, strict=True):
            panels[title if score is None else f"{title}, {score:.2f} dB"] = image
        write_sheet(outputs["sheet.png"], panels)
    if options.cubes in outputs:
        write_cube(outputs[options.cubes], estimate)
    write_photo(outputs["png"], estimate, profile)
    height, width = estimate.shape[1:]
    return Line(outputs["png"], height, width, *scores)


def _outputs(inputs: Sequence[Path], cubes: bool, options: Options) -> dict[Path, dict[str, Path]]:
    """The files that are written for each input, by what is added to its name."""
    suffixes = ["png", *[options.cubes] * cubes, *["sheet.png"] * options.sheet]
    outputs = {path: {suffix: options.out / f"{path.stem}.{suffix}" for suffix in suffixes} for path in inputs}
    written: dict[Path, Path] = {}
    for path, files in outputs.items():
        for output in files.values():
            if output in written:
                raise LorunError(
                    f"{output}: would be the output of {written[output]} and of {path}: rename one of them"
                )
            written[output] = path
    for output in filter(Path.exists, written):
        if any(path.exists() and output.samefile(path) for path in inputs):
            raise LorunError(f"{output}: is an input, which is never overwritten: choose another folder with --out")
    return outputs


def _printable(text: str) -> str:
    """A name that is not UTF-8, with question marks."""
    return text.encode("utf-8", "replace").decode()
