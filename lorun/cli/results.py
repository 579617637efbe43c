"""Result sets: `lorun table`, `show`, `report`, `history`, `status`, `verdict` and `licences`."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from lorun.cli.options import Data, ItsProfile, ResultSet, Runs
from lorun.errors import LorunError, one_of


def table(
    config: Annotated[Path | None, Option("--config", "-c", help="Profile; needed without --from.")] = None,
    runs: Runs = Path("runs"),
    data: Data = Path("data"),
    out: Annotated[Path | None, Option(help="Folder of the result set; default: results/PROFILE.")] = None,
    source: Annotated[Path | None, Option("--from", help="Make pages and figures again from this set.")] = None,
    partial: Annotated[bool, Option("--partial", help="List missing runs with their status.")] = False,
    keep: Annotated[bool, Option("--keep", help="Keep the lines of runs whose folders are not here.")] = False,
    figures: Annotated[bool, Option(help="Draw the figures as well.")] = True,
    form: Annotated[str, Option("--format", help="Of figures: png, or pdf for PDF files beside them.")] = "png",
) -> None:
    """Write the tables and figures of a profile from its runs, all at once or not at all. Other files stay.

    Use --keep if some run folders are on other machines or gone, and --partial if some runs were never made.

    --from FOLDER writes only the pages (summary.md, details.md) and figures, from the tables in FOLDER: no run is
    needed and no number changes. Strips and spectra are drawn again where the runs are here. The profile is
    config/FOLDER.yaml unless --config names another.
    """
    from lorun.profiles import load_profile
    from lorun.results.figures import FORMATS
    from lorun.results.markdown import write_pages
    from lorun.results.result_set import draw, write_result_set

    one_of("format", form, FORMATS)
    forms = list(dict.fromkeys(("png", form))) if figures else []
    if source is None:
        if config is None:
            raise LorunError("lorun table: give a profile (--config), or a result set to make again (--from)")
        profile = load_profile(config)
        folder = out or Path("results") / profile.profile
        write_result_set(profile, runs, folder, partial, data, keep, forms)
    else:
        if partial or keep:
            raise LorunError("--from reads no runs: leave out --partial and --keep")
        profile, folder = load_profile(config or profile_of(source)), out or source
        draw(profile, write_pages(profile, source, folder), runs, data, folder, forms)
    typer.echo(f"wrote {folder}")


def profile_of(folder: Path) -> Path:
    """The file of the profile of a result set."""
    return Path("config") / f"{folder.resolve().name}.yaml"


def show(
    folder: ResultSet,
    form: Annotated[str, Option("--format", help="markdown or latex.")] = "markdown",
) -> None:
    """Print the summary of a result set and list its files; or print its tables for LaTeX.

    The tables for LaTeX are floats with captions and labels, the best scores in bold and the second best underlined.
    They need the package booktabs.
    """
    from lorun.results.store import read_result_set

    results = read_result_set(folder)  # damaged tables are named instead of shown
    if one_of("format", form, ("markdown", "latex")) == "latex":
        from lorun.results.markdown import render_latex

        typer.echo(render_latex(results), nl=False)
        return
    text = (folder / "summary.md").read_text(encoding="utf-8")
    files = [f"  {path}" for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    typer.echo("\n".join([text, "Files:", *files]))


def report(
    folder: Annotated[Path, Argument(help="A result set, or a folder of result sets, e.g. results.")],
    config: ItsProfile = None,
    runs: Runs = Path("runs"),
    data: Data = Path("data"),
    out: Annotated[Path | None, Option(help="Page to write; default: report.html in FOLDER. See below.")] = None,
) -> None:
    """Write a result set as one HTML page that needs no network, no server and no other file.

    It begins with the verdict on the paper's claims. It has tables to sort and filter, plots, crops of every method
    with error maps, training curves and licences. Click a score to see its code, data, weights, seed and machine, and
    the commands that reproduce it. Without the runs, the page shows the figures of the result set instead of the crops.

    Of a folder of result sets, it writes the page of each and index.html with a line for each, into the folder that
    --out names (default: the same folder).
    """
    from lorun.profiles import load_profile
    from lorun.report import write_report, write_reports

    if not (folder / "rows.csv").exists() and list(folder.glob("*/rows.csv")):
        if config is not None:
            raise LorunError(f"{folder} holds several result sets, each with its own profile: leave out --config")
        out = out or folder
        entries = write_reports(folder, runs=runs, data=data, out=out)
        typer.echo(f"wrote {out / 'index.html'} and the pages of {', '.join(one.name for one in entries)}")
        return
    config = config or profile_of(folder)
    out = out or folder / "report.html"
    write_report(load_profile(config), config, folder, runs=runs, data=data, out=out)
    typer.echo(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")


def history(
    results: Annotated[list[Path], Argument(help="Folders of result sets, e.g. results/quick.")],
    task: Annotated[str | None, Option(help="Only this task, e.g. cs.")] = None,
    dataset: Annotated[str | None, Option(help="Only this test set.")] = None,
    setting: Annotated[str | None, Option(help="Only this setting, e.g. r25.")] = None,
    method: Annotated[str | None, Option(help="Only this method, e.g. lorun.")] = None,
    protocol: Annotated[str | None, Option(help="Protocol; default: the first of each table.")] = None,
    metric: Annotated[str, Option(help="Column of summary.csv: psnr, parameters_network, step_total, ...")] = "psnr",
    plot: Annotated[Path | None, Option(help="PNG file to draw it into.")] = None,
) -> None:
    """Show how a score, or a count of parameters or bytes, changed over the commits of a result set.

    Result sets are read from git. Commits that did not change the value are left out. Those whose table cannot be read
    are listed at the end.
    """
    from lorun.results.history import history as history_of
    from lorun.results.history import render, write_plot

    chosen = {"task": task, "dataset": dataset, "setting": setting, "method": method, "protocol": protocol}
    values, unread = history_of(results, metric, chosen)
    typer.echo(render(values, unread))
    if plot is not None:
        write_plot(values, plot)
        typer.echo(f"wrote {plot}")


def status(
    results: Annotated[list[Path] | None, Argument(help="Folders of result sets; default: all.")] = None,
    runs: Runs = Path("runs"),
    accept: Annotated[str | None, Option(metavar="RUN", help="A run that was repeated, see below.")] = None,
    as_json: Annotated[bool, Option("--json", help="Print everything that is known, as JSON.")] = False,
    strict: Annotated[bool, Option("--strict", help="Exit with 1 if a result is stale or unknown.")] = False,
) -> None:
    """Show which results no longer match code, configuration, data or packages, why, and what has to run again.

    Every run recorded which code it loaded; that is compared with the files of today. Start from the project's root.
    See docs/status.md for the limits.

    --accept SET/TASK/SETTING/METHOD/SEED records today's code for all seeds of a method, after this one was run again
    with equal scores.
    """
    from lorun.results.store import read_result_set
    from lorun.status.accept import accept as accept_run
    from lorun.status.check import status_of
    from lorun.status.project import Project
    from lorun.status.report import as_json as to_json
    from lorun.status.report import render

    project = Project(Path())
    if accept is not None:
        typer.echo(accept_run(project, accept, runs))
        return
    folders = results or sorted(path.parent for path in Path("results").glob("*/rows.csv"))
    if not folders:
        raise LorunError("results: there is no result set (rows.csv); `lorun table` writes one")
    checked = [(held, status_of(project, held, runs)) for held in map(read_result_set, folders)]
    typer.echo(to_json(checked) if as_json else render(checked))
    if strict and any(result.state in ("stale", "unknown") for _, results in checked for result in results):
        raise typer.Exit(1)


def verdict(
    page: Annotated[Path, Argument(help="Markdown file with the markers of the table, e.g. README.md.")],
    results: Annotated[Path, Option(help="Folder of the result sets.")] = Path("results"),
) -> None:
    """Write the table of the paper's claims and our measurements into a page."""
    from lorun.results.verdict import update_verdict

    typer.echo(f"{page}: {'updated' if update_verdict(page, results) else 'up to date'}")


def licences(data: Data = Path("data")) -> None:
    """Print the licences of all datasets, weights files and baselines (the committed list is LICENCES.md)."""
    from lorun.results.licences import ledger

    typer.echo(ledger(data), nl=False)
