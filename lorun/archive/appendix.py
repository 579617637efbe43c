"""The artifact appendix of a result set, from its tables: what ACM's badges and the NeurIPS checklist ask for."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from tabulate import tabulate

from lorun.archive.origin import Origin
from lorun.results.cells import NONE
from lorun.results.store import METHOD, ResultSet, plain, records

UNKNOWN = "not recorded"
"""What a sentence says of what the tables do not know; a cell has `NONE`."""

_PAGE = f"""\
# Artifact appendix of `{{name}}`

Made from the tables by `lorun appendix`; do not edit it. Result set: {{cited}}. Profile: `{{profile}}`. \
Licence of the code: {{licence}}.

{{runs}} runs ({{statuses}}), {{scores}} scores. {NONE} in a table: {UNKNOWN}, or not applicable.

{{tasks}}

{{asked}}

## Hardware

{{machines}}

The model of the CPU, where `device` is `cpu`: {UNKNOWN}. Number of machines and their memory: {UNKNOWN}.

## Software

{{packages}}

{{commits}}

The packages are those of the scoring. Operating system, driver of a GPU: {UNKNOWN}. All other packages: \
`requirements.lock` of the commit.

## Time

{{times}}

Training: mean over runs; {{hours:.2f}} hours in all, without pretraining and 0 where another setting's network is \
used. TFLOP: counted, pretraining included. Reconstruction: median.

{{tuning}} Time of scoring: {UNKNOWN}. Preliminary trainings that are in no table: {UNKNOWN}.

## Peak memory

{{memory}}

Counted: bytes of live tensors, the same on every machine; MB are 10^6 bytes. Memory of whole processes: {UNKNOWN}.

## Seeds

{{seeds}}

A seed decides the initial weights and the training patches. Released weights have one run.

## Intervals

{{intervals}}

## Data and licences

{{datasets}}

{{licences}}

## Reproduce

Address of the repository: {{address}}. Lasting address of this archive: {{doi}}.

{{several}}The whole set, in a clone:

{{whole}}

{{one}}`make reproduce` ends by saying whether the result is identical to the committed set, equal within noise, or \
different.
"""

_TUNING = (
    "Learning rates were tuned by {} more trainings of {:.3g} TFLOP in all, which include those that failed or were "
    f"not chosen ({{}}); their time: {UNKNOWN}."
)

_INTERVALS = """\
The ± of a mean is the standard deviation over seeds (n - 1): how far a repetition would differ. The interval of a \
difference covers the true mean with a probability of at least 95 %, over repetitions with other samples of what the \
last column names; it says nothing about other sources. It assumes that images and seeds are crossed random effects \
with normal terms. It is not corrected for the number of differences ({}).

{}"""

_SEVERAL = "The runs were made by {} commits (Software), so make a single run again at its own.\n\n"

_ASKED = (
    ("ACM Artifacts Available", "a public, lasting address", "Reproduce"),
    ("ACM Artifacts Evaluated", "documented, complete, exercisable, reusable", "all sections"),
    ("ACM Results Reproduced", "the main results obtained by others", "Reproduce: its last command compares"),
    ("NeurIPS checklist 4-6", "reproducibility, open data and code, settings", "Data and licences, Reproduce"),
    ("NeurIPS checklist 7", "error bars and what they capture", "Seeds, Intervals"),
    ("NeurIPS checklist 8", "compute resources", "Hardware, Time, Peak memory"),
    ("NeurIPS checklist 12-13", "licences of assets used and released", "Data and licences"),
)


def appendix(origin: Origin) -> str:
    """The page in Markdown."""
    results, citation = origin.results, origin.citation
    runs, timing, tuning = results.runs, results.timing, results.tuning
    training = timing.what == "training"
    tasks = [
        (task, *(_listed(lines[name]) for name in ("setting", "dataset", "method", "protocol")))
        for task, lines in results.summary.groupby("task", sort=False)
    ]
    machines = [
        (work, *line)
        for work, frame, *columns in (
            ("training", runs, "trained_device", "trained_threads"),
            ("scoring", runs, "device", "threads"),
            ("counting of costs", results.accounting, "device", "threads"),
            ("latency", timing[~training], "device", "threads"),
        )
        for line in _counts(frame, *columns)
    ]
    differed = "files differed from it"
    commits = sorted({*runs.commit.dropna(), *runs.trained_commit.dropna()})
    steps = [f"git checkout {commits[0]} && make setup"] if len(commits) == 1 else []
    steps += [f"make {target} PROFILE={origin.profile.profile}" for target in ("data", "reproduce")]
    run, commands = next(((key, found) for key, found in origin.commands.items() if found), ((), []))
    statuses = runs.status.value_counts(sort=False)
    return _PAGE.format(
        name=results.name,
        cited=UNKNOWN if results.version is None else results.version.cited,
        profile=origin.profile.profile,
        licence=citation.get("license", UNKNOWN),
        runs=len(runs),
        statuses=", ".join(f"{count} {status}" for status, count in statuses.items()),
        scores=len(results.rows),
        tasks=_table(tasks, "task", "settings", "test sets", "methods", "protocols"),
        asked=_table(_ASKED, "who asks", "what", "where"),
        machines=_table(machines, "work", "device", "threads", "number"),
        packages=_table(_counts(runs, "python", "versions"), "Python", "packages", "runs"),
        commits=_table(
            _counts(runs, "trained_commit", "trained_dirty", "commit", "dirty"),
            *("commit of training", differed, "commit of scoring", differed, "runs"),
        ),
        times=_times(results),
        hours=timing[training].seconds.sum() / 3600,
        tuning=_tuning(tuning) if len(tuning) else "No tuning is recorded.",
        memory=_memory(results),
        seeds=_seeds(runs),
        intervals=_intervals(results.differences),
        datasets=_table(origin.datasets, "dataset", "md5"),
        licences=_licences(origin),
        address=citation.get("repository-code", UNKNOWN),
        doi=citation.get("doi", UNKNOWN),
        several=_SEVERAL.format(len(commits)) if len(commits) > 1 else "",
        whole=_code(steps),
        one=f"One run, {'/'.join(map(str, run))}:\n\n{_code(commands)}\n\n" if commands else "",
    )


def licences_page(origin: Origin) -> str:
    """The page of licences of a result set in Markdown."""
    return f"# Licences of data and baselines of `{origin.results.name}`\n\n{_licences(origin)}\n"


def _times(results: ResultSet) -> str:
    timing = results.timing
    training = timing.what == "training"
    seconds = timing[training].groupby(list(METHOD)).seconds.mean()
    latency = {_method(line): line["median_ms"] for line in records(timing[~training])}
    sides = {_method(line): line.get("image") for line in records(results.accounting)}
    lines = []
    for key, runs in results.runs.groupby(list(METHOD), sort=False):
        reconstruction = _number(latency.get(key), ".1f")
        lines.append(
            (
                *key,
                len(runs),
                _number(seconds.get(key), ".1f"),
                _number(runs.training_flops.max(), ".3g", 1e12),
                reconstruction and f"{reconstruction} ({sides.get(key)})",
            )
        )
    titles = ("runs", "training (s)", "training (TFLOP)", "reconstruction (ms), of an image of side (pixels)")
    return _table(lines, *METHOD, *titles)


def _tuning(tuning: pd.DataFrame) -> str:
    statuses = ", ".join(f"{status}: {count}" for status, count in tuning.status.value_counts(sort=False).items())
    return _TUNING.format(len(tuning), tuning.training_flops.sum() / 1e12, statuses)


def _memory(results: ResultSet) -> str:
    lines = []
    for line in map(pd.Series, records(results.accounting)):
        counted = _number(line.get("step_total"), ".1f", 1e6)
        lines.append(
            (
                *_method(line),
                counted and f"{line.step_batch} x {line.step_patch}, {line.step_precision}",
                counted,
                _number(line.get("cuda_step_peak_bytes"), ".1f", 1e6),
                line.get("image"),
                _number(line.get("inference_total"), ".1f", 1e6),
            )
        )
    step = ("training step (patches x side)", "counted (MB)", "measured on a GPU (MB)")
    return _table(lines, *METHOD, *step, "image (side)", "reconstruction, counted (MB)")


def _seeds(runs: pd.DataFrame) -> str:
    methods: dict[tuple[Any, ...], list[Any]] = {}
    for (task, setting, method), lines in runs.groupby(list(METHOD), sort=False):
        methods.setdefault((task, setting, _listed(sorted(lines.seed))), []).append(method)
    return _table([(*key, _listed(names)) for key, names in methods.items()], "task", "setting", "seeds", "methods")


def _intervals(differences: pd.DataFrame) -> str:
    if differences.empty:
        return f"Differences between methods: {UNKNOWN}."
    lines = []
    for key, group in differences.groupby(["task", "dataset", "setting", "images", "seeds"], sort=False):
        captured = [name for name in ("images", "seeds") if group[name].iloc[0] > 1]
        lines.append((*key, len(group), " and ".join(captured) or "nothing: no interval"))
    titles = ("task", "test set", "setting", "images", "seeds", "differences", "the interval captures")
    return _INTERVALS.format(len(differences), _table(lines, *titles))


def _licences(origin: Origin) -> str:
    terms = ("name", "what", "licence", "redistribution", "citation")
    lines = [(*(one[term] for term in terms), ", ".join(one["sources"])) for one in origin.licences]
    table = _table(lines, "name", "what", "licence", "may be passed on", "citation", "source")
    return f'{table}\n\n"not stated": the authors give no licence. Use it for research, cite it, do not pass it on.'


def _method(line: Any) -> tuple[Any, ...]:
    return tuple(line[name] for name in METHOD)


def _counts(frame: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    """The different values of some columns, and how many lines have them."""
    groups = frame.reindex(columns=list(columns)).groupby(list(columns), sort=False, dropna=False)
    return [tuple(map(plain, line)) for line in groups.size().reset_index().itertuples(index=False)]


def _listed(values: Any) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def _number(value: Any, form: str, unit: float = 1) -> str | None:
    """A number in a unit, as text; None for null."""
    return None if pd.isna(value) else format(value / unit, form)


def _table(lines: Sequence[Sequence[Any]], *headings: str) -> str:
    """A table in Markdown; null is `NONE`."""
    cells = [[NONE if value is None else str(value).replace("|", "\\|") for value in line] for line in lines]
    return tabulate(cells, headings, tablefmt="pipe", disable_numparse=True) if cells else f"{headings[0]}: {UNKNOWN}."


def _code(lines: Sequence[str]) -> str:
    return "\n".join(["```bash", *lines, "```"])
