"""The verdict table of the README: what the LoRun paper claims, and what the committed result sets say."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lorun.errors import LorunError
from lorun.evaluation.protocols import get_protocol
from lorun.files import write_text
from lorun.results.cells import Table, cell
from lorun.results.published import lorun_claims
from lorun.results.store import ResultSet, read_result_set
from lorun.results.summary import PARAMETERS, STEP_MEMORY, shown

SETS = ("paper", "desk", "quick")
"""The result sets that are read, the closest to the paper's sizes first."""

TASKS = {"cs": "CS", "cassi": "CASSI", "sr": "SR"}

_START, _END = "<!-- verdict -->", "<!-- /verdict -->"

_CAVEAT = """
PSNR: mean ± standard deviation over seeds; equal steps, one untuned learning rate; not a verdict on the method.
"""


def verdict_table(results: Path) -> str:
    """The table in Markdown, from the result sets in the folder `results`.

    Parameters and memory are counted and need no training: they come from the first of `SETS`. The difference in PSNR,
    LoRun - Block-K, is given for each set that has the task.

    Raises:
        LorunError: there is none of these result sets, or one is damaged.
    """
    sets = [read_result_set(results / name) for name in SETS if (results / name / "rows.csv").exists()]
    if not sets:
        raise LorunError(f"{results}: none of the result sets {', '.join(SETS)} is here")
    rows = [
        _ratios("Fewer parameters (LoRun / Block-K)", PARAMETERS, "parameter_ratio", sets[0]),
        _ratios("Less memory in a training step (LoRun / Block-K)", STEP_MEMORY, "step_memory_ratio", sets[0]),
        *(_psnr(task, results) for task in TASKS for results in sets if task in set(_leading(results).task)),
    ]
    headings = ["Claim of the paper", "Paper", "Measured here", "Where"]
    return Table(headings, [[cell(text) for text in row] for row in rows]).markdown(right=False) + _CAVEAT


def update_verdict(page: Path, results: Path) -> bool:
    """Write the table between the markers of a page, such as README.md; return whether the page changed.

    Raises:
        LorunError: the page has no markers; or as `verdict_table`.
    """
    text = page.read_text(encoding="utf-8")
    between = re.compile(f"{_START}.*?{_END}", re.DOTALL)
    if not between.search(text):
        raise LorunError(f"{page}: no {_START} and {_END} to write the table between")
    new = between.sub(lambda _: f"{_START}\n{verdict_table(results)}{_END}", text)
    if new != text:
        write_text(page, new)
    return new != text


def _ratios(title: str, claim: str, key: str, results: ResultSet) -> Sequence[str]:
    """A row of ratios, one per task."""
    claims = results.claims[results.claims.claim == claim].dropna(subset="ours").drop_duplicates("task")
    ours = {task: value for task, value in zip(claims.task, claims.ours, strict=True) if task in TASKS}
    paper = {task: lorun_claims(task)[key] for task in ours if key in lorun_claims(task)}
    return title, _per_task(paper), _per_task(ours), f"{_link(results)}: counted"


def _per_task(values: dict[str, float]) -> str:
    """The value of each task, or one number if they are the same."""
    texts = {task: f"{value:.2f}" for task, value in values.items()}
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{text} ({TASKS[task]})" for task, text in texts.items())


def _psnr(task: str, results: ResultSet) -> Sequence[str]:
    """A row of the difference in PSNR for a task in a result set: of one test set, or from the worst to the best."""
    lines = _leading(results)
    lines = lines[lines.task == task]
    found = [(line, values) for _, line in lines.iterrows() if len(values := _differences(results, line))]
    measured = "not trained yet"
    if found:
        means, seeds = [values.mean() for _, values in found], max(len(values) for _, values in found)
        about = [f"{len(means)} test sets"] * (len(means) > 1) + [f"{seeds} seed{'s' if seeds > 1 else ''}"]
        value = f"{min(means):+.2f} to {max(means):+.2f}" if len(means) > 1 else f"{means[0]:+.2f}"
        value += f" ± {found[0][1].std():.2f}" if len(means) == 1 and seeds > 1 else ""
        measured = f"{value} dB ({', '.join(about)})"
    shown_lines = [line for line, _ in found] or [line for _, line in lines.iterrows()][:1]
    places = ", ".join(f"{shown(line.dataset, line.simulated)} {line.setting}" for line in shown_lines)
    claim = f"{TASKS[task]}: PSNR on par or above (LoRun - Block-K)"
    paper = f"≥ {lorun_claims(task)['psnr_difference']:g} dB"
    return claim, paper, measured, f"{_link(results)}: K = {lines.stages.iloc[0]}, {places}"


def _leading(results: ResultSet) -> pd.DataFrame:
    """The lines of LoRun in the summary, one per task, dataset and setting: those of the first protocol, if it measures
    PSNR and Block-K is there too."""
    place = ["task", "dataset", "setting"]
    summary = results.summary
    lines = summary[summary.protocol == summary.groupby(place, sort=False).protocol.transform("first")]
    lines = lines[["psnr" in get_protocol(name).metrics for name in lines.protocol]]
    block_k = lines[lines.method == "block_k"][place]
    return lines[lines.method == "lorun"].merge(block_k, on=place)


def _differences(results: ResultSet, line: pd.Series) -> pd.Series:
    """LoRun - Block-K in dB, per seed."""
    rows = results.rows
    rows = rows[(rows.metric == "psnr") & rows.method.isin(["lorun", "block_k"])]
    for name in ("task", "dataset", "setting", "protocol"):
        rows = rows[rows[name] == line[name]]
    means = rows.pivot_table(values="value", index="seed", columns="method").reindex(columns=["lorun", "block_k"])
    return (means["lorun"] - means["block_k"]).dropna()


def _link(results: ResultSet) -> str:
    return f"[{results.name}](results/{results.name}/summary.md)"
