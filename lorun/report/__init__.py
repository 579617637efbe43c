"""Result sets as HTML pages: the paper's claims, tables, plots, crops, and where every number comes from."""

import sys
from pathlib import Path

from rich.progress import track

from lorun.bench.latency import agreed, read_latencies
from lorun.errors import LorunError
from lorun.files import write_text
from lorun.profiles import Profile
from lorun.report.charts import curves, latency_note, looks, of_section, points, scaling
from lorun.report.crops import Crops, tuning_figures
from lorun.report.freshness import Freshness
from lorun.report.index import PAGE, Entry, entry, write_index
from lorun.report.page import render
from lorun.report.provenance import Provenance
from lorun.report.tables import overview, sections, verdict_on, whole_tables
from lorun.results.cells import UNRANKED
from lorun.results.licences import licences_of
from lorun.results.store import read_result_set
from lorun.status.project import Project


def write_report(
    profile: Profile, config: Path, folder: Path, *, runs: Path, data: Path, out: Path, root: Path = Path()
) -> Entry:
    """Write the page of a result set and return its line of the index. The same tables, runs, data and code give the
    same bytes.

    Args:
        config: the file of the profile, for commands that the page shows.
        folder: the result set. `bench/` next to it has the costs against the number of stages, and latencies.
        runs: the folder of all runs, for reconstructions.
        data: the folder of all datasets, for true images and licences.
        root: the project that the numbers are compared with, see `lorun.report.freshness`.

    Raises:
        LorunError: there is no result set in `folder`, or a table is damaged.
    """
    results = read_result_set(folder)
    provenance = Provenance(profile, config, results)
    freshness = Freshness(profile, results, runs=runs, root=root)
    parts = sections(profile, results, provenance)
    crops = Crops(profile, results, runs=runs, data=data)
    bench = folder.parent / "bench"
    timed = read_latencies(bench / "latency.csv", profile.profile)
    latencies = [of_section(timed, section) for section in parts]
    believed = [latency if agreed(latency) else latency.iloc[:0] for latency in latencies]
    costs = scaling(bench / "scaling.csv")
    series = [] if costs is None else costs["series"]
    methods = dict.fromkeys([*results.summary.method, *results.curves.method, *(one["method"] for one in series)])
    table, compared = verdict_on(results)
    page = render(
        profile=profile.profile,
        commits=sorted({*results.runs.commit.dropna(), *results.runs.trained_commit.dropna()}),
        verdict=table,
        compared=compared,
        overview=overview(parts),
        unranked={name: why for name, why in UNRANKED.items() if name in methods},
        sections=parts,
        whole=whole_tables(results, provenance),
        fresh=freshness.of(),
        fresh_sections=[freshness.of(section.task, section.setting) for section in parts],
        points=[
            points(section, results.timing, latency, provenance)
            for section, latency in zip(parts, believed, strict=True)
        ],
        latency_notes=[latency_note(latency) for latency in latencies],
        curves=curves(results.curves),
        scaling=costs,
        looks=looks(methods),
        crops=crops.of_sections(parts),
        figures=[crops.figures(section, folder) for section in parts],
        tuned=tuning_figures(results, folder),
        lines=provenance.lines,
        licences=licences_of(profile, list(results.summary.method.unique()), data),
    )
    write_text(out, page)
    return entry(results, config, freshness)


def write_reports(folder: Path, *, runs: Path, data: Path, out: Path, root: Path = Path()) -> list[Entry]:
    """Write the page of each result set in the subfolders of `folder`, by the profiles of `root`, to
    `out/NAME/report.html`, and their index to `out/index.html`; return its lines.

    Raises:
        LorunError: there is no result set, or one is damaged or has no profile.
    """
    sets = sorted(path.parent for path in folder.glob("*/rows.csv"))
    if not sets:
        raise LorunError(f"{folder}: no result set here or in a subfolder (rows.csv is missing)")
    project = Project(root)
    entries = []
    for one in track(sets, description="pages", disable=not sys.stderr.isatty()):
        config = root / "config" / f"{one.name}.yaml"
        places = {"runs": runs, "data": data, "root": root, "out": out / one.name / PAGE}
        entries.append(write_report(project.profile(one.name), config, one, **places))
    write_index(out, entries)
    return entries
