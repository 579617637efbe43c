"""The artifact appendix of a result set, from its tables: what ACM's badges and the NeurIPS checklist ask for."""

from typing import Any

import pandas as pd
from tabulate import tabulate

from lorun.archive.origin import Origin
from lorun.results.cells import NONE
from lorun.results.store import METHOD, ResultSet

UNKNOWN = "not recorded"
"""What a sentence says of what the tables do not know; a cell has `NONE`."""

_PAGE = f"""\
# Artifact appendix of `{{name}}`

Made from the tables by `lorun appendix`; do not edit it. Result set: {{cited}}. Profile: `{{profile}}`. \
Licence of the code: {{licence}}.

{{runs}} runs ({{statuses}}), {{scores}} scores. {NONE} in a table: {UNKNOWN}, or not applicable.

## Hardware

{{machines}}

The model of the CPU, where `device` is `cpu`, number of machines and their memory: {UNKNOWN}.

## Software

{{packages}}

{{commits}}

Dirty: files differed from the commit. Versions are those of the scoring; all others: `requirements.lock` of the \
commit. Operating system, driver of a GPU: {UNKNOWN}.

## Time

{{times}}

Training: mean over seeds; {{hours:.2f}} hours in all, without pretraining and 0 where another setting's network is \
used. TFLOP: counted, pretraining included. Reconstruction: median, of the image named below.

{{tuned}} trainings more, of {{tuning:.3g}} TFLOP in all, tuned the learning rates. Their time, that of scoring, and \
preliminary trainings that are in no table: {UNKNOWN}.

## Peak memory

{{memory}}

Counted: bytes of live tensors, the same on every machine; MB are 10^6 bytes. Memory of whole processes: {UNKNOWN}.

## Seeds and intervals

A seed decides the initial weights and the training patches. Released weights have one run. The ± of a mean is the \
standard deviation over seeds (n - 1): how far a repetition would differ.

{{differences}}

The interval of a difference between methods covers the true mean with a probability of at least 95 %, over \
repetitions with other images and other seeds, of which there must be several: with one image it captures the seeds \
alone, with one seed the images, and with one of both there is none. It says nothing about other sources. It assumes \
that images and seeds are crossed random effects with normal terms, and is not corrected for the number of differences.

## Data and licences

{{datasets}}

{{licences}}

## Reproduce

Address of the repository: {{address}}. Lasting address of this archive: {{doi}}. In a clone, at a commit of Software:

```bash
make reproduce PROFILE={{profile}}
```

It ends by saying whether the result is identical to the committed set, equal within noise, or different.
"""


def appendix(origin: Origin) -> str:
    """The page in Markdown."""
    results, citation = origin.results, origin.citation
    runs, timing = results.runs, results.timing
    training = timing.what == "training"
    machines = pd.concat(
        _columns(frame, device="device", threads="threads").assign(work=work)
        for work, frame in (
            ("training", _columns(runs, trained_device="device", trained_threads="threads")),
            ("scoring", runs),
            ("counting of costs", results.accounting),
            ("latency", timing[~training]),
        )
    )
    statuses = runs.status.value_counts(sort=False)
    return _PAGE.format(
        name=results.name,
        cited=UNKNOWN if results.version is None else results.version.cited,
        profile=origin.profile.profile,
        licence=citation.get("license", UNKNOWN),
        runs=len(runs),
        statuses=", ".join(f"{count} {status}" for status, count in statuses.items()),
        scores=len(results.rows),
        machines=_table(_counted(machines[["work", "device", "threads"]])),
        packages=_table(_counted(runs[["python", "versions"]])),
        commits=_table(_counted(runs[["trained_commit", "trained_dirty", "commit", "dirty"]])),
        times=_table(_times(results)),
        hours=timing[training].seconds.sum() / 3600,
        tuned=len(results.tuning),
        tuning=results.tuning.training_flops.sum() / 1e12 if len(results.tuning) else 0,
        memory=_table(_memory(results.accounting)),
        differences=_table(_counted(results.differences[["task", "dataset", "setting", "images", "seeds"]])),
        datasets=_table(pd.DataFrame(origin.datasets, columns=["dataset", "md5"])),
        licences=_licences(origin),
        address=citation.get("repository-code", UNKNOWN),
        doi=citation.get("doi", UNKNOWN),
    )


def _times(results: ResultSet) -> pd.DataFrame:
    """A line per method."""
    timing, method = results.timing, list(METHOD)
    training = timing.what == "training"
    runs = results.runs.groupby(method, sort=False)
    return pd.DataFrame(
        {
            "seeds": runs.seed.agg(lambda seeds: ", ".join(map(str, sorted(seeds)))),
            "training (s)": _numbers(timing[training].groupby(method).seconds.mean(), ".1f"),
            "training (TFLOP)": _numbers(runs.training_flops.max(), ".3g", 1e12),
            "reconstruction (ms)": _numbers(timing[~training].groupby(method).median_ms.first(), ".1f"),
        },
        index=runs.size().index,
    ).reset_index()


def _memory(accounting: pd.DataFrame) -> pd.DataFrame:
    """A line per method."""
    table = _columns(
        accounting,
        **{name: name for name in METHOD},
        step_batch="patches",
        step_patch="of side",
        step_precision="precision",
        step_total="training step (MB)",
        cuda_step_peak_bytes="measured on a GPU (MB)",
        image="image of side",
        inference_total="reconstruction (MB)",
    )
    sizes = [name for name in map(str, table) if name.endswith("(MB)")]
    return table.assign(**{name: _numbers(table[name], ".1f", 1e6) for name in sizes})


def _licences(origin: Origin) -> str:
    table = pd.DataFrame(origin.licences)
    table = table.assign(sources=table.sources.map(", ".join)).rename(columns={"redistribution": "may be passed on"})
    unstated = '"not stated": the authors give no licence. Use it for research, cite it, do not pass it on.'
    return f"{_table(table)}\n\n{unstated}"


def _columns(frame: pd.DataFrame, **titles: str) -> pd.DataFrame:
    """Some columns under their titles; those that the table lacks are null."""
    return frame.reindex(columns=list(titles)).rename(columns=titles)


def _counted(frame: pd.DataFrame) -> pd.DataFrame:
    """The different lines, and how often each is there."""
    return frame.groupby(list(frame), sort=False, dropna=False).size().rename("number").reset_index()


def _numbers(values: "pd.Series[Any]", form: str, unit: float = 1) -> "pd.Series[Any]":
    """Numbers in a unit, as text."""
    return values.astype(object).map(lambda value: format(value / unit, form), na_action="ignore")


def _table(frame: pd.DataFrame) -> str:
    """A table in Markdown; null is `NONE`."""
    lines = frame.astype(object).itertuples(index=False)
    cells = [[NONE if pd.isna(value) else str(value).replace("|", "\\|") for value in line] for line in lines]
    return tabulate(cells, list(frame), tablefmt="pipe", disable_numparse=True) if cells else f"No {frame.columns[0]}."
