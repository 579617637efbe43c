"""One self-contained HTML page of a result set: tables, plots, crops, and where every number comes from."""

from pathlib import Path

from lorun.files import write_text
from lorun.profiles import Profile
from lorun.report.charts import curves, points, scaling
from lorun.report.crops import Crops
from lorun.report.licences import licences
from lorun.report.lines import Lines
from lorun.report.page import render
from lorun.report.stored import read_stored
from lorun.report.tables import overview, sections, whole_tables


def write_report(profile: Profile, config: Path, folder: Path, *, runs: Path, data: Path, out: Path) -> None:
    """Write the page of the result set in `folder`, which `profile`, the file `config`, gave.

    The same tables, runs and data give the same bytes. Kept reconstructions come from `runs`, their truths from `data`;
    where either is missing, the page says so. What stages cost comes from `bench/scaling.csv` beside `folder`.

    Raises:
        LorunError: there is no result set in `folder`, or one of its tables cannot be read.
    """
    stored = read_stored(folder)
    lines = Lines(profile, config, stored)
    shown = sections(profile, stored.summary, stored.degradations, lines)
    crops = Crops(profile, stored.rows, folder, runs=runs, data=data)
    counted = folder.parent / "bench" / "scaling.csv"
    page = render(
        profile=profile.profile,
        rows=stored.rows,
        overview=overview(shown, stored.summary, lines),
        sections=shown,
        whole=whole_tables(stored, lines),
        points=points(stored, shown, lines),
        curves=curves(stored.curves),
        scaling=scaling(counted),
        scaling_name=f"{counted.parent.name}/{counted.name}",
        crops=crops.of(shown),
        figures=crops.figures(shown),
        lines=lines,
        licences=licences(profile, stored.summary, data),
    )
    write_text(out, page)
