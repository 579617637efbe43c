"""The verdict table of the README: what the LoRun paper claims, and what the committed result sets say."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lorun.errors import LorunError
from lorun.evaluation.protocols import get_protocol
from lorun.files import write_text
from lorun.results.cells import NONE, Table, cell
from lorun.results.differences import differences
from lorun.results.published import lorun_claims
from lorun.results.store import PLACE, ResultSet, grouped, read_result_set
from lorun.results.summary import PARAMETERS, RATIOS, STEP_MEMORY, leading, shown

SETS = ("paper", "desk", "ablation", "quick")
"""The result sets that are read, the closest to the paper's sizes first."""

TASKS = {"cs": "CS", "cassi": "CASSI", "sr": "SR"}

REFERENCES = {"block_k": "Block-K", "shared_sigma": "shared_sigma"}
"""What LoRun is compared with: the paper's reference, and its rival, one denoiser that is told the noise level."""

EQUAL = 1.01
"""Costs are equal if their ratio is at most this."""

RELEASED = "released"
"""The `checkpoint_policy` of weights that were not trained for the set, those of our models included."""

_FAIR = "equal cost, learning rates tuned"

_START, _END = "<!-- verdict -->", "<!-- /verdict -->"

EXPLAINED = """\
PSNR: mean difference, paired by image and seed, and its 95 % interval, which with one image or seed says nothing about
others. Least: the smallest true difference that would be shown in 80 % of repetitions. Several test sets: the range
over them."""


def verdict_table(results: Path) -> str:
    """The table in Markdown, from the result sets in the folder `results`, and below it how each set compared.

    Raises:
        LorunError: there is none of these result sets, or one is damaged.
    """
    sets = [read_result_set(results / name) for name in SETS if (results / name / "rows.csv").exists()]
    if not sets:
        raise LorunError(f"{results}: none of the result sets {', '.join(SETS)} is here")
    links = [f"[{one.name}](results/{one.name}/summary.md): " for one in sets]
    table, compared = verdict(sets, links)
    return f"{table.markdown(right=False)}\n{EXPLAINED}\n" + "".join(f"\n{text}\n" for text in compared)


def verdict(sets: Sequence[ResultSet], links: Sequence[str]) -> tuple[Table, list[str]]:
    """The paper's claims and our measurements, and how each set compared, in a sentence.

    Parameters and memory are counted and need no training: they come from the first set. The difference in PSNR between
    LoRun and each of `REFERENCES` is given for each set that has the task, with its verdict. Claims that no set
    measures have no row. `links` precede the place of each set in the last column.
    """
    rows = [
        *_ratios("Fewer parameters (LoRun / Block-K)", PARAMETERS, sets[0], links[0]),
        *_ratios("Less memory in a training step (LoRun / Block-K)", STEP_MEMORY, sets[0], links[0]),
        *(row for task in TASKS for one, link in zip(sets, links, strict=True) for row in _psnr(task, one, link)),
    ]
    headings = ["Claim of the paper", "Paper", "Measured here", "Where"]
    compared = [text for one in sets if (text := _compared(one))]
    return Table(headings, [[cell(text) for text in row] for row in rows]), compared


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


def _ratios(title: str, claim: str, results: ResultSet, link: str) -> list[Sequence[str]]:
    """A row of ratios, one per task, if there are any."""
    key, _ = RATIOS[claim]
    claims = results.claims[results.claims.claim == claim].dropna(subset="ours").drop_duplicates("task")
    ours = {task: value for task, value in zip(claims.task, claims.ours, strict=True) if task in TASKS}
    paper = {task: lorun_claims(task)[key] for task in ours if key in lorun_claims(task)}
    return [(title, _per_task(paper) or NONE, _per_task(ours), f"{link}counted")] if ours else []


def _per_task(values: dict[str, float]) -> str:
    """The value of each task, or one number if they are the same."""
    texts = {task: f"{value:.2f}" for task, value in values.items()}
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return ", ".join(f"{text} ({TASKS[task]})" for task, text in texts.items())


def _psnr(task: str, results: ResultSet, link: str) -> list[Sequence[str]]:
    """The rows of a task in a result set: LoRun minus Block-K, trained or not, and minus its rival if that is there."""
    lines = _leading(results)
    lines = lines[lines.task == task]
    if lines.empty:
        return []
    paired = differences(lines, results.rows)
    rows: list[Sequence[str]] = []
    for reference, name in REFERENCES.items():
        found = paired[paired.reference == reference]
        if found.empty and reference != "block_k":
            continue
        claim, paper = f"{TASKS[task]}: PSNR, LoRun - {name}", NONE
        if reference == "block_k":
            claim, paper = f"{claim} (on par or above)", f"≥ {lorun_claims(task)['psnr_difference']:g} dB"
        places = lines.iloc[:1] if found.empty else found
        where = ", ".join(f"{shown(line.dataset, line.simulated)} {line.setting}" for _, line in places.iterrows())
        measured = "not trained yet" if found.empty else _measured(found)
        rows.append((claim, paper, measured, f"{link}K = {lines.stages.iloc[0]}, {where}"))
    return rows


def _leading(results: ResultSet) -> pd.DataFrame:
    """The lines of LoRun in the summary, one per task, dataset and setting: those of the first protocol, if it measures
    PSNR and Block-K is there too. A model that is scored and not trained counts where it was trained alone."""
    lines = leading(results.summary)
    lines = lines[["psnr" in get_protocol(name).metrics for name in lines.protocol]]
    block_k = lines[lines.method == "block_k"][list(PLACE)]
    lorun = lines[(lines.method == "lorun") & (lines.checkpoint_policy != RELEASED)]
    return lorun.merge(block_k, on=list(PLACE))


def _measured(paired: pd.DataFrame) -> str:
    """Verdict, difference, interval, least difference, images and seeds: of one test set, or the range over several."""
    counts = paired.verdict.value_counts(sort=False)
    text = ", ".join(f"{verdict} on {count} of {len(paired)}" for verdict, count in counts.items())
    text = f"{text if len(paired) > 1 else paired.verdict.iloc[0]}: {_range(paired['mean'], '+.2f')} dB"
    if paired.low.notna().any():
        text += f" [{paired.low.min():+.2f}, {paired.high.max():+.2f}], least {_range(paired.least, '.2f')} dB"
    return f"{text} (images: {_range(paired.images, 'd')}, seeds: {_range(paired.seeds, 'd')})"


def _range(values: pd.Series, form: str) -> str:
    """The least and the greatest value, or one if they look the same."""
    return " to ".join(dict.fromkeys(format(value, form) for value in (values.min(), values.max())))


def _compared(results: ResultSet) -> str | None:
    """How LoRun and its references were compared in each task, in a sentence: at equal cost or equal steps, with tuned
    learning rates or not. None where LoRun is not trained."""
    runs = results.runs[results.runs.method.isin(["lorun", *REFERENCES])]
    runs = runs[(runs.status == "completed") & (runs.steps.fillna(0) > 0) & (runs.checkpoint_policy != RELEASED)]
    tasks: dict[str, list[str]] = {}
    for (task,), lines in grouped(runs, ["task"]).items():
        methods = set(lines.method)
        if "lorun" in methods:
            how = f"{_cost(lines)}, {_tuned(methods, results.tuning[results.tuning.task == task])}"
            tasks.setdefault(how, []).append(TASKS.get(task, task))
    if not tasks:
        return None
    parts = [how if len(tasks) == 1 else f"{how} ({', '.join(named)})" for how, named in tasks.items()]
    caveat = "" if list(tasks) == [_FAIR] else " Not a verdict on the method."
    return f"`{results.name}`: {'; '.join(parts)}.{caveat}"


def _cost(runs: pd.DataFrame) -> str:
    """What trainings of a task have in common; cost is equal if counted FLOPs agree to `EQUAL` in every setting. Older
    sets do not record FLOPs."""
    settings = runs.groupby("setting")
    counted = (runs.training_flops.fillna(0) > 0).all()
    if counted and (settings.training_flops.max() <= EQUAL * settings.training_flops.min()).all():
        return "equal cost"
    return "equal steps" if (settings.steps.nunique() == 1).all() else "neither equal cost nor equal steps"


def _tuned(methods: set[str], tuning: pd.DataFrame) -> str:
    tuned = methods & set(tuning.method[tuning.chosen.astype(bool)])
    if tuned and tuned != methods:
        return f"learning rates tuned for {', '.join(sorted(tuned))} only"
    return "learning rates tuned" if tuned else "learning rates not tuned"
