"""A result set as one HTML page: tables, plots, crops, and where every number comes from."""

from pathlib import Path

from lorun.files import write_text
from lorun.profiles import Profile
from lorun.report.charts import curves, points, scaling
from lorun.report.crops import Crops, tuning_figures
from lorun.report.page import render
from lorun.report.provenance import Provenance
from lorun.report.tables import overview, sections, whole_tables
from lorun.results.licences import licences_of
from lorun.results.store import read_result_set


def write_report(profile: Profile, config: Path, folder: Path, *, runs: Path, data: Path, out: Path) -> None:
    """Write the page of a result set. The same tables, runs and data give the same bytes.

    Args:
        config: the file of the profile, for commands that the page shows.
        folder: the result set. The costs against the number of stages come from `bench/scaling.csv` next to it.
        runs: the folder of all runs, for reconstructions.
        data: the folder of all datasets, for true images and licences.

    Raises:
        LorunError: there is no result set in `folder`, or a table is damaged.
    """
    results = read_result_set(folder)
    provenance = Provenance(profile, config, results)
    parts = sections(profile, results, provenance)
    crops = Crops(profile, results, runs=runs, data=data)
    page = render(
        profile=profile.profile,
        commits=sorted({*results.runs.commit.dropna(), *results.runs.trained_commit.dropna()}),
        overview=overview(parts, provenance),
        sections=parts,
        whole=whole_tables(results, provenance),
        points=[points(section, results.timing, provenance) for section in parts],
        curves=curves(results.curves),
        scaling=scaling(folder.parent / "bench" / "scaling.csv"),
        crops=crops.of_sections(parts),
        figures=[crops.figures(section, folder) for section in parts],
        tuned=tuning_figures(results, folder),
        lines=provenance.lines,
        licences=licences_of(profile, list(results.summary.method.unique()), data),
    )
    write_text(out, page)
