"""Result sets as HTML pages: the paper's claims, tables, plots, crops, and where every number comes from."""

import sys
from pathlib import Path

from rich.progress import track

from lorun.bench.latency import read_latencies
from lorun.errors import LorunError
from lorun.evaluation.metrics import METRICS
from lorun.files import write_text
from lorun.profiles import Profile
from lorun.report.charts import curves, latency_note, looks, of_section, points, scaling
from lorun.report.crops import SIDE, Crops, picture
from lorun.report.freshness import Freshness
from lorun.report.index import PAGE, Entry, entry
from lorun.report.page import render, render_report
from lorun.report.provenance import Provenance
from lorun.report.tables import sections, verdict_on, whole_tables
from lorun.results.cells import UNRANKED
from lorun.results.figures import tuning_path
from lorun.results.licences import licences_of
from lorun.results.store import read_result_set
from lorun.results.verdict import EXPLAINED
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
    bench = folder.parent / "bench"
    latencies = read_latencies(bench / "latency.csv", profile.profile)
    costs = scaling(bench / "scaling.csv")
    series = [] if costs is None else costs["series"]
    methods = dict.fromkeys([*results.summary.method, *results.curves.method, *(one["method"] for one in series)])
    found = sections(profile, results, provenance)
    crops = Crops(profile, results, runs=runs, data=data)
    parts, plotted = [], []
    for section in found:
        shown = crops.of(section)
        latency = of_section(latencies, section)
        figure = f"{section.task}_{section.dataset}_{section.setting}.png"
        parts.append(
            {
                "section": section,
                "fresh": freshness.of(section.task, section.setting),
                "latency_note": latency_note(latency),
                "crops": shown,
                "strip": picture(folder / f"strip_{figure}"),
                "spectra": picture(folder / f"spectra_{figure}"),
            }
        )
        plotted.append(
            {
                "title": section.title,
                "place": f"{section.task}/{section.setting}",
                "protocol": section.protocol,
                "metrics": [metric.name for metric in section.metrics],
                "points": points(section, results.timing, latency, provenance),
                "crops": shown,
            }
        )
    table, compared = verdict_on(results)
    numbers = {
        "metrics": {
            name: {key: getattr(metric, key) for key in ("heading", "digits", "better")}
            for name, metric in METRICS.items()
        },
        "sections": plotted,
        "looks": looks(methods),
        "curves": curves(results.curves),
        "scaling": costs,
        "lines": provenance.lines,
    }
    page = render_report(
        numbers,
        profile=profile.profile,
        commits=sorted({*results.runs.commit.dropna(), *results.runs.trained_commit.dropna()}),
        verdict=table,
        explained=EXPLAINED,
        compared=compared,
        unranked={name: why for name, why in UNRANKED.items() if name in methods},
        parts=parts,
        whole=whole_tables(results, provenance),
        fresh=freshness.of(),
        scaling=costs,
        side=SIDE,
        tuned={task: picture(tuning_path(folder, task)) for task in results.tuning.task.unique()},
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
    write_text(out / "index.html", render("index.html.j2", entries=entries, page=PAGE))
    return entries
