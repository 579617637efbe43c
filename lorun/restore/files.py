"""Restore files: one after the other, each on its own, with a table of what was done."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Literal, NamedTuple

from tabulate import tabulate
from torch import Tensor

from lorun.data.cubes import SUFFIXES as CUBES
from lorun.data.listing import FORMULAS, files_in
from lorun.errors import LorunError
from lorun.evaluation import metrics
from lorun.files import write_text
from lorun.memory import refuse_too_large
from lorun.physics.cassi import CASSI
from lorun.restore.operators import PEAK, read_capture
from lorun.restore.photos import (
    BANDS,
    PHOTOS,
    as_before,
    in_channels,
    read_photo,
    read_picture,
    write_cube,
    write_photo,
)
from lorun.restore.restoring import Advance, Restorer
from lorun.restore.sheet import Panel, write_sheet

TABLE = "restored.csv"

_BYTES, _SHEET = 50, 40
"""Memory for each pixel and channel of a picture, besides that for a tile; and more for a sheet."""


class Options(NamedTuple):
    """What is read and written.

    Attributes:
        out: folder of the outputs.
        model: what the table calls the model.
        measured: inputs are measurements.
        peak: see `lorun.restore.operators.read_capture`.
        cubes: format of restored cubes.
        sheet: write a sheet for each picture.
        force: replace outputs that exist; without it they are kept.
    """

    out: Path
    model: str
    measured: bool = False
    peak: float = PEAK
    cubes: Literal["npy", "mat"] = "npy"
    sheet: bool = False
    force: bool = False


class Line(NamedTuple):
    """One line of the table. Where there is a truth, `psnr` is that of the restored picture in dB, and
    `psnr_measurement` that of what the measurement alone gives."""

    output: str
    input: str
    model: str
    height: int
    width: int
    tiles: int
    psnr_measurement: float | None
    psnr: float | None


class Outputs(NamedTuple):
    """The files that are written for one input; None for those that are not."""

    picture: Path
    cube: Path | None
    sheet: Path | None

    @property
    def paths(self) -> list[Path]:
        return [path for path in self if path is not None]


def inputs_of(paths: Iterable[Path], channels: int) -> list[Path]:
    """The files that are named, and those in the folders that are named, sorted by name.

    Raises:
        LorunError: a folder has no pictures; as `lorun.data.listing.files_in`.
    """
    suffixes = (*CUBES, *PHOTOS) if channels == BANDS else PHOTOS
    found: list[Path] = []
    for path in paths:
        inside = files_in(path, [f"*{suffix}" for suffix in suffixes]) if path.is_dir() else []
        if path.is_dir() and not inside:
            raise LorunError(f"{path}: no pictures in this folder: looked for {', '.join(suffixes)}")
        found += inside if path.is_dir() else [path]
    return list(dict.fromkeys(found))


def restore_files(inputs: Sequence[Path], restorer: Restorer, options: Options) -> tuple[list[Line], int]:
    """Restore pictures, or measurements, and write them as OUT/NAME.png, cubes as .npy or .mat too.

    A file that cannot be restored is reported on standard error, and the others are restored. OUT/restored.csv has a
    line for each picture that this call, or one before it, restored.

    Returns:
        The lines of the pictures that were restored, and how many files could not be.

    Raises:
        LorunError: two inputs have one output; an output is an input; restored.csv is another table.
    """
    outputs = _outputs(inputs, restorer.model.experiment.channels == BANDS, options)
    before = _read_table(options.out / TABLE)
    done: list[Line] = []
    failed = 0
    with _following(len(inputs)) as (say, advance, end):
        try:
            for path in inputs:
                existing = [output for output in outputs[path].paths if output.exists()]
                if existing and not options.force:
                    say(f"{existing[0]}: exists and is kept; --force replaces it")
                else:
                    try:
                        done.append(_restore(path, outputs[path], restorer, options, advance))
                    except LorunError as error:
                        failed += 1
                        say(f"error: {error}")
                end()
        finally:
            if done:
                _write_table(options.out / TABLE, before, done)
    return done, failed


def listing(lines: Sequence[Line]) -> str:
    """The table as people read it."""
    rows = [
        [_printable(line.output), f"{line.width} x {line.height}", _shown(line.psnr_measurement), _shown(line.psnr)]
        for line in lines
    ]
    titles = ["output", "pixels", "measurement alone, dB", "restored, dB"]
    if all(line.psnr is None for line in lines):
        rows, titles = [row[:2] for row in rows], titles[:2]
    return tabulate(rows, titles, "plain", disable_numparse=True)


def psnr(estimate: Tensor, truth: Tensor) -> float:
    """PSNR of images (C, H, W) in dB, clipped to [0, 1]; of a cube the mean over its bands. At most 80."""
    image = estimate.clamp(0, 1)
    if len(truth) != BANDS:
        return metrics.psnr(image, truth)
    return mean(metrics.psnr(*bands) for bands in zip(image.split(1), truth.split(1), strict=True))


def _restore(path: Path, outputs: Outputs, restorer: Restorer, options: Options, advance: Advance) -> Line:
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
    if outputs.sheet is not None:
        panels = [Panel("measurement alone", initial), Panel("restored", estimate)]
        panels = [
            panel._replace(title=f"{panel.title}{'' if score is None else f', {score:.2f} dB'}")
            for panel, score in zip(panels, scores, strict=True)
        ]
        write_sheet(outputs.sheet, panels if truth is None else [Panel("picture", truth), *panels])
    if outputs.cube is not None:
        write_cube(outputs.cube, estimate)
    write_photo(outputs.picture, estimate, profile)
    height, width = estimate.shape[1:]
    return Line(str(outputs.picture), str(path), options.model, height, width, restored.tiles, *scores)


def _outputs(inputs: Sequence[Path], cubes: bool, options: Options) -> dict[Path, Outputs]:
    """The files that are written for each input."""
    outputs: dict[Path, Outputs] = {}
    written: dict[Path, Path] = {}
    for path in inputs:
        name = options.out / path.stem
        outputs[path] = Outputs(
            picture=name.with_name(f"{path.stem}.png"),
            cube=name.with_name(f"{path.stem}.{options.cubes}") if cubes else None,
            sheet=name.with_name(f"{path.stem}.sheet.png") if options.sheet else None,
        )
        for output in outputs[path].paths:
            if output in written:
                raise LorunError(
                    f"{output}: would be the output of {written[output]} and of {path}: rename one of them"
                )
            written[output] = path
    for output in filter(Path.exists, written):
        same = next((path for path in inputs if path.exists() and output.samefile(path)), None)
        if same is not None:
            raise LorunError(f"{output}: is an input, which is never overwritten: choose another folder with --out")
    return outputs


@contextmanager
def _following(files: int) -> Iterator[tuple[Callable[[str], object], Advance, Callable[[], object]]]:
    """What prints a line, follows the tiles of a picture, and notes its end. On a terminal there are progress bars, of
    pictures and of tiles, where there are several."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        pictures = bar.add_task("pictures", total=files, visible=files > 1)
        tiles = bar.add_task("tiles", total=None, visible=False)

        def end() -> None:
            bar.advance(pictures)
            bar.update(tiles, visible=False)

        yield (
            lambda text: console.print(_printable(text), markup=False, highlight=False, emoji=False, soft_wrap=True),
            lambda total, done: bar.update(tiles, total=total, completed=done, visible=total > 1),
            end,
        )


def _read_table(path: Path) -> list[list[str]]:
    """The lines of a table that is there already. Raises LorunError where it is something else."""
    if not path.exists():
        return []
    try:
        titles, *lines = csv.reader(io.StringIO(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, ValueError, csv.Error):
        titles, lines = [], []
    if tuple(titles) != Line._fields:
        raise LorunError(f"{path}: exists, and is not a table of `lorun restore`: choose another folder with --out")
    return lines


def _write_table(path: Path, before: Sequence[Sequence[str]], lines: Sequence[Line]) -> None:
    """Write the lines, and those of other pictures that were in the table `before`."""
    written = [[_cell(value) if isinstance(value, str) else value for value in _rounded(line)] for line in lines]
    new = {line[0] for line in written}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(Line._fields)
    writer.writerows(line for line in before if line and line[0] not in new)
    writer.writerows(written)
    write_text(path, out.getvalue())


def _rounded(line: Line) -> list[object]:
    return [round(value, 4) if isinstance(value, float) else value for value in line]


def _shown(score: float | None) -> str:
    return "" if score is None else f"{score:.2f}"


def _cell(path: str) -> str:
    """A path as a table holds it: `./` keeps spreadsheets from running it."""
    return f"./{_printable(path)}" if path.startswith(FORMULAS) else _printable(path)


def _printable(text: str) -> str:
    """A name that is not UTF-8, with question marks."""
    return text.encode("utf-8", "replace").decode()
