"""The artifact appendix of a result set, from its tables: what ACM's badges and the NeurIPS checklist ask for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from lorun.profiles import Profile
from lorun.report.provenance import Provenance
from lorun.results.cells import NONE
from lorun.results.licences import licences_of
from lorun.results.store import METHOD, ResultSet, plain, records

UNKNOWN = "not recorded"
"""What a sentence says of what the tables do not know; a cell has `NONE`."""


def appendix(
    profile: Profile,
    config: Path,
    results: ResultSet,
    citation: Mapping[str, Any],
    licences: Sequence[Mapping[str, Any]],
) -> str:
    """The page in Markdown.

    Args:
        config: the file of the profile, for commands.
        citation: the content of CITATION.cff.
        licences: see `licences_of_set`.
    """
    parts = [
        *_head(profile, results, citation),
        *_hardware(results),
        *_software(results),
        *_time(results),
        *_memory(results),
        *_seeds(results),
        *_intervals(results),
        *_data(results, licences),
        *_reproduce(profile, config, results, citation),
    ]
    return "\n\n".join(parts) + "\n"


def licences_of_set(profile: Profile, results: ResultSet, data: Path) -> list[dict[str, Any]]:
    """The licence of each dataset and baseline of a result set, by the registry in `data` and the cards."""
    return licences_of(profile, list(results.runs.method.unique()), data)


def licences_page(name: str, licences: Sequence[Mapping[str, Any]]) -> str:
    """The page of licences of a result set in Markdown."""
    return f"# Licences of data and baselines of `{name}`\n\n{_licences(licences)}\n\n{_NOT_STATED}\n"


def commands(profile: Profile, config: Path, results: ResultSet) -> dict[tuple[Any, ...], list[str]]:
    """The commands that reproduce each run, by task, setting, method and seed."""
    runs = [run for line in Provenance(profile, config, results).lines for run in line["runs"]]
    return {tuple(run[name] for name in (*METHOD, "seed")): run["commands"] for run in runs}


def _head(profile: Profile, results: ResultSet, citation: Mapping[str, Any]) -> list[str]:
    runs, version = results.runs, results.version
    cited = UNKNOWN if version is None else version.cited
    statuses = ", ".join(f"{count} {status}" for status, count in runs.status.value_counts(sort=False).items())
    tasks = [
        (task, _listed(lines.setting), _listed(lines.dataset), _listed(lines.method), _listed(lines.protocol))
        for task, lines in results.summary.groupby("task", sort=False)
    ]
    return [
        f"# Artifact appendix of `{results.name}`",
        f"Made from the tables by `lorun appendix`; do not edit it. Result set: {cited}. Profile: `{profile.profile}`. "
        f"Licence of the code: {citation.get('license', UNKNOWN)}.",
        f"{len(runs)} runs ({statuses}), {len(results.rows)} scores. {NONE} in a table: {UNKNOWN}, or not applicable.",
        _table(tasks, "task", "settings", "test sets", "methods", "protocols"),
        _table(_ASKED, "who asks", "what", "where"),
    ]


_ASKED = (
    ("ACM Artifacts Available", "a public, lasting address", "Reproduce"),
    ("ACM Artifacts Evaluated", "documented, complete, exercisable, reusable", "all sections"),
    ("ACM Results Reproduced", "the main results obtained by others", "Reproduce: its last command compares"),
    ("NeurIPS checklist 4-6", "reproducibility, open data and code, settings", "Data and licences, Reproduce"),
    ("NeurIPS checklist 7", "error bars and what they capture", "Seeds, Intervals"),
    ("NeurIPS checklist 8", "compute resources", "Hardware, Time, Peak memory"),
    ("NeurIPS checklist 12-13", "licences of assets used and released", "Data and licences"),
)


def _hardware(results: ResultSet) -> list[str]:
    latencies = results.timing[results.timing.what != "training"]
    machines = [
        *_counted("training", results.runs, "trained_device", "trained_threads"),
        *_counted("scoring", results.runs, "device", "threads"),
        *_counted("counting of costs", results.accounting, "device", "threads"),
        *_counted("latency", latencies, "device", "threads"),
    ]
    return [
        "## Hardware",
        _table(machines, "work", "device", "threads", "number"),
        f"The model of the CPU, where `device` is `cpu`: {UNKNOWN}. Number of machines and their memory: {UNKNOWN}.",
    ]


def _software(results: ResultSet) -> list[str]:
    runs = results.runs
    packages = _counts(runs, "python", "versions")
    commits = _counts(runs, "trained_commit", "trained_dirty", "commit", "dirty")
    return [
        "## Software",
        _table(packages, "Python", "packages", "runs"),
        _table(
            commits,
            *("commit of training", "files differed from it", "commit of scoring", "files differed from it", "runs"),
        ),
        f"The packages are those of the scoring. Operating system, driver of a GPU: {UNKNOWN}. All other packages: "
        "`requirements.lock` of the commit.",
    ]


def _time(results: ResultSet) -> list[str]:
    trained = results.timing[results.timing.what == "training"]
    latency = {_method(line): line for line in records(results.timing[results.timing.what != "training"])}
    sides = {_method(line): line.get("image") for line in records(results.accounting)}
    lines = []
    for key, runs in results.runs.groupby(list(METHOD), sort=False):
        seconds = trained[(trained[list(METHOD)] == list(key)).all(axis=1)].seconds.dropna()
        flops = runs.training_flops.dropna()
        one = latency.get(key, {})
        lines.append(
            (
                *key,
                len(runs),
                f"{seconds.mean():.1f}" if len(seconds) else None,
                f"{flops.max() / 1e12:.3g}" if len(flops) else None,
                None if one.get("median_ms") is None else f"{one['median_ms']:.1f} ({sides.get(key)})",
            )
        )
    tuning = results.tuning
    tuned = (
        f"Learning rates were tuned by {len(tuning)} more trainings of {tuning.training_flops.sum() / 1e12:.3g} TFLOP "
        f"in all, which include those that failed or were not chosen ({_statuses(tuning)}); their time: {UNKNOWN}."
        if len(tuning)
        else "No tuning is recorded."
    )
    return [
        "## Time",
        _table(
            lines,
            *(*METHOD, "runs", "training (s)", "training (TFLOP)", "reconstruction (ms), of an image of side (pixels)"),
        ),
        f"Training: mean over runs; {trained.seconds.sum() / 3600:.2f} hours in all, without pretraining and 0 where "
        "another setting's network is used. TFLOP: counted, pretraining included. Reconstruction: median.",
        f"{tuned} Time of scoring: {UNKNOWN}. Preliminary trainings that are in no table: {UNKNOWN}.",
    ]


def _memory(results: ResultSet) -> list[str]:
    columns = ("step_batch", "step_patch", "step_precision", "step_total", "cuda_step_peak_bytes", "image")
    lines = []
    for line in records(results.accounting):
        batch, patch, precision, counted, measured, side = (line.get(name) for name in columns)
        step = None if counted is None else f"{batch} x {patch}, {precision}"
        found = (_megabytes(counted), _megabytes(measured), side, _megabytes(line.get("inference_total")))
        lines.append((*_method(line), step, *found))
    return [
        "## Peak memory",
        _table(
            lines,
            *(*METHOD, "training step (patches x side)", "counted (MB)", "measured on a GPU (MB)"),
            *("image (side)", "reconstruction, counted (MB)"),
        ),
        f"Counted: bytes of live tensors, the same on every machine; MB are 10^6 bytes. Memory of whole processes: "
        f"{UNKNOWN}.",
    ]


def _seeds(results: ResultSet) -> list[str]:
    groups: dict[tuple[str, ...], list[str]] = {}
    for (task, setting, method), runs in results.runs.groupby(list(METHOD), sort=False):
        seeds = _listed(sorted(runs.seed))
        groups.setdefault((str(task), str(setting), seeds), []).append(str(method))
    lines = [(task, setting, seeds, ", ".join(methods)) for (task, setting, seeds), methods in groups.items()]
    return [
        "## Seeds",
        _table(lines, "task", "setting", "seeds", "methods"),
        "A seed decides the initial weights and the training patches. Released weights have one run.",
    ]


def _intervals(results: ResultSet) -> list[str]:
    differences = results.differences
    if not len(differences):
        return ["## Intervals", f"Differences between methods: {UNKNOWN}."]
    lines = []
    for key, group in differences.groupby(["task", "dataset", "setting", "images", "seeds"], sort=False):
        images, seeds = (int(group[name].iloc[0]) for name in ("images", "seeds"))
        captured = [name for name, count in (("images", images), ("seeds", seeds)) if count > 1]
        lines.append((*key, len(group), " and ".join(captured) or "nothing: no interval"))
    return [
        "## Intervals",
        "The ± of a mean is the standard deviation over seeds (n - 1): how far a repetition would differ. The interval "
        "of a difference covers the true mean with a probability of at least 95 %, over repetitions with other samples "
        "of what the last column names; it says nothing about other sources. It assumes that images and seeds are "
        "crossed random effects with normal terms. It is not corrected for the number of differences "
        f"({len(differences)}).",
        _table(lines, "task", "test set", "setting", "images", "seeds", "differences", "the interval captures"),
    ]


def _data(results: ResultSet, licences: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        "## Data and licences",
        _table(datasets(results), "dataset", "md5"),
        _licences(licences),
        _NOT_STATED,
    ]


_NOT_STATED = '"not stated": the authors give no licence. Use it for research, cite it, do not pass it on.'


def datasets(results: ResultSet) -> list[tuple[str, str]]:
    """Every dataset that a run used, with its md5."""
    entries = {entry for cell in results.runs.data_md5.dropna() for entry in cell.split()}
    return [(name, md5) for name, _, md5 in (entry.partition("=") for entry in sorted(entries))]


def _reproduce(profile: Profile, config: Path, results: ResultSet, citation: Mapping[str, Any]) -> list[str]:
    commits = sorted({*results.runs.commit.dropna(), *results.runs.trained_commit.dropna()})
    steps = [f"make data PROFILE={profile.profile}", f"make reproduce PROFILE={profile.profile}"]
    if len(commits) == 1:
        steps.insert(0, f"git checkout {commits[0]} && make setup")
    several = f"The runs were made by {len(commits)} commits (Software), so make a single run again at its own.\n\n"
    found = commands(profile, config, results)
    first = next((key for key in found if found[key]), None)
    one = [] if first is None else [f"One run, {'/'.join(map(str, first))}:", _code(found[first])]
    return [
        "## Reproduce",
        f"Address of the repository: {citation.get('repository-code', UNKNOWN)}. Lasting address of this archive: "
        f"{citation.get('doi', UNKNOWN)}.",
        (several if len(commits) > 1 else "") + "The whole set, in a clone:",
        _code(steps),
        *one,
        "`make reproduce` ends by saying whether the result is identical to the committed set, equal within noise, or "
        "different.",
    ]


# Cells


def _method(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(line[name] for name in METHOD)


def _counted(work: str, frame: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    return [(work, *line) for line in _counts(frame.reindex(columns=list(columns)), *columns)]


def _counts(frame: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    """The different values of some columns, and how many lines have them."""
    groups = frame.groupby(list(columns), sort=False, dropna=False)
    return [(*(plain(group[name].iloc[0]) for name in columns), len(group)) for _, group in groups]


def _statuses(frame: pd.DataFrame) -> str:
    return ", ".join(f"{status}: {count}" for status, count in frame.status.value_counts(sort=False).items())


def _listed(values: Any) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def _megabytes(count: Any) -> str | None:
    return None if count is None else f"{count / 1e6:.1f}"


def _licences(licences: Sequence[Mapping[str, Any]]) -> str:
    terms = ("name", "what", "licence", "redistribution", "citation")
    lines = [(*(one[term] for term in terms), ", ".join(one["sources"])) for one in licences]
    return _table(lines, "name", "what", "licence", "may be passed on", "citation", "source")


def _table(lines: Sequence[Sequence[Any]], *headings: str) -> str:
    """A table in Markdown; null is `NONE`."""
    cells = [[NONE if value is None else str(value).replace("|", "\\|") for value in line] for line in lines]
    return tabulate(cells, headings, tablefmt="pipe", disable_numparse=True) if cells else f"{headings[0]}: {UNKNOWN}."


def _code(lines: Sequence[str]) -> str:
    return "\n".join(["```bash", *lines, "```"])
