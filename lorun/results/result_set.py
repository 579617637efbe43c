"""A result set: the folder of tables that one profile gives, `results/PROFILE/`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from lorun.data.registry import DATA_ROOT, is_simulated
from lorun.errors import LorunError
from lorun.evaluation.planned import planned_rows
from lorun.evaluation.protocols import get_protocol
from lorun.files import write_text
from lorun.methods import Experiment
from lorun.profiles import Profile
from lorun.results.comparison import compare
from lorun.results.degradations import by_degradation
from lorun.results.earlier import Earlier
from lorun.results.markdown import render, render_details
from lorun.results.paths import EVALUATION_LOG, ROWS, TRAINING_LOG, account_path
from lorun.results.rows import plain, read_rows, to_frame, write_table
from lorun.results.summary import claims, summarise
from lorun.results.tasks import tasks
from lorun.results.version import write_version
from lorun.training.outcome import Outcome, read_outcome

Ended = list[tuple[Experiment, Outcome]]


def write_result_set(
    profile: Profile, runs: Path, folder: Path, partial: bool = False, data: Path = DATA_ROOT, keep: bool = False
) -> pd.DataFrame:
    """Write all tables of `profile` into `folder` and return the summary.

    rows.csv (one per image, degradation, metric and protocol), summary.csv/.json/.md, details.md, degradations.csv,
    claims.csv, comparison.csv (with published scores), accounting.csv, trainings.csv (what each training left as it
    began), curves.csv; tasks.csv where tasks share a base; version.json; and timing.csv, the only one that depends on
    the machine's mood.
    The registry in `data` says which datasets are simulated. With `keep`, what the tables in `folder` hold of runs that
    are not in `runs` stays.

    Raises:
        LorunError: a run is missing, unless `partial`: it then is a row with its status and no value.
    """
    experiments = list(profile.experiments())
    earlier = Earlier(folder) if keep else None
    rows = pd.concat([_rows(experiment, runs, partial, earlier) for experiment in experiments], ignore_index=True)
    accounts = list(_accounts(profile, runs, partial, earlier))
    simulated = [name for name in profile.datasets() if is_simulated(data, name)]
    summary = summarise(profile, rows, accounts, simulated)
    degradations = by_degradation(profile, rows, simulated)
    claimed = claims(profile, summary)
    compared = compare(profile, summary, degradations)
    shared = tasks(profile, summary)
    ended = [(e, outcome) for e in experiments if (outcome := read_outcome(runs / e.folder)) is not None]
    timing, counted = _split_timing(pd.DataFrame(accounts))
    kept = [] if earlier is None else [e for e in experiments if _kept(e, runs, earlier)]
    told = {"timing": _training_times(ended), "trainings": _trainings(ended), "curves": _curves(ended)}
    if earlier is not None and kept:
        told = {name: _joined(experiments, table, earlier.table(name, kept)) for name, table in told.items()}
    write_table(folder / "rows.csv", rows)
    write_table(folder / "accounting.csv", counted)
    write_table(folder / "timing.csv", pd.concat([timing, told["timing"]], ignore_index=True))
    write_table(folder / "trainings.csv", told["trainings"])
    write_table(folder / "curves.csv", told["curves"])
    write_table(folder / "degradations.csv", degradations)
    write_table(folder / "claims.csv", claimed)
    write_table(folder / "comparison.csv", compared)
    if len(shared):
        write_table(folder / "tasks.csv", shared)
    write_table(folder / "summary.csv", summary)
    write_text(folder / "summary.json", json.dumps(_metrics(summary), indent=1) + "\n")
    write_text(folder / "details.md", render_details(profile, summary, degradations))
    write_text(folder / "summary.md", render(profile, summary, claimed, compared))
    write_version(folder, profile.profile)
    return summary


def _kept(experiment: Experiment, runs: Path, earlier: Earlier) -> bool:
    """Whether nothing of a run is here, and the tables hold it."""
    return read_outcome(runs / experiment.folder) is None and earlier.rows(experiment) is not None


def _joined(experiments: list[Experiment], table: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """The lines of trainings in both, in the order of the experiments."""
    if "what" in kept:  # latencies are told with the accounts
        kept = kept[kept.what == "training"]
    if kept.empty:
        return table
    labels = list(experiments[0].labels)
    order = {tuple(experiment.labels.values()): place for place, experiment in enumerate(experiments)}
    both = pd.concat([table, kept.reindex(columns=table.columns if len(table) else kept.columns)], ignore_index=True)
    places = [order[line] for line in both[labels].itertuples(index=False, name=None)]
    return both.iloc[sorted(range(len(both)), key=places.__getitem__)]


def _rows(experiment: Experiment, runs: Path, partial: bool, earlier: Earlier | None) -> pd.DataFrame:
    folder = runs / experiment.folder
    if (folder / ROWS).exists():
        return read_rows(folder / ROWS)
    kept = None if earlier is None else earlier.rows(experiment)
    if kept is not None:
        return kept
    if not partial:
        raise LorunError(f"{experiment.name} is not evaluated ({folder / ROWS} is missing): run `lorun evaluate` first")
    message = _last_error(experiment, folder)
    said = {"status": "failed" if message else "not_run", "message": message}
    said |= {"run": experiment.key, "config_hash": experiment.config_hash}
    return to_frame({**row, **said} for row in planned_rows(experiment))


def _last_error(experiment: Experiment, folder: Path) -> str | None:
    """What the log of the job that has not ended well ends with, unless that is a report of progress."""
    log = folder / (TRAINING_LOG if read_outcome(folder) is None else EVALUATION_LOG)
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return lines[-1] if lines and not lines[-1].startswith(experiment.name) else None


def _accounts(profile: Profile, runs: Path, partial: bool, earlier: Earlier | None) -> Iterator[dict[str, Any]]:
    for experiment in profile.accounted():
        path = account_path(runs, experiment)
        if path.exists():
            yield json.loads(path.read_text(encoding="utf-8"))
        elif earlier is not None and (kept := earlier.account(experiment)) is not None:
            yield kept
        elif not partial:
            raise LorunError(f"{experiment.name} is not accounted ({path} is missing): run `lorun account` first")


def _split_timing(accounts: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The latencies that were measured as rows of timing.csv, and everything else."""
    measured = [column for column in accounts.columns if column.startswith("latency_")]
    which = ["task", "setting", "method"]
    timing = accounts.reindex(columns=[*which, *measured]).dropna(subset=measured, how="all")
    timing.columns = [column.removeprefix("latency_") for column in timing.columns]
    return timing.assign(what="reconstruction latency"), accounts.drop(columns=measured)


def _training_times(ended: Ended) -> pd.DataFrame:
    records = []
    for experiment, outcome in ended:
        machine = {name: outcome.provenance[name] for name in ("device", "threads")}
        records.append({**experiment.labels, "what": "training", "seconds": outcome.seconds, **machine})
    return pd.DataFrame(records)


def _trainings(ended: Ended) -> pd.DataFrame:
    """A row per training: how it ended, and which of the parameters that it trains ended as they began.

    `unmoved` counts them, `names` lists them, null where it is not known.
    """
    records = [
        {
            **experiment.labels,
            "status": outcome.status,
            "steps": outcome.steps,
            "unmoved": None if outcome.unmoved is None else len(outcome.unmoved),
            "names": " ".join(outcome.unmoved or []) or None,
        }
        for experiment, outcome in ended
    ]
    frame = pd.DataFrame(records, columns=["task", "setting", "method", "seed", "status", "steps", "unmoved", "names"])
    return frame.astype({"unmoved": "Int64"})


def _curves(ended: Ended) -> pd.DataFrame:
    records = [{**experiment.labels, **point.model_dump()} for experiment, outcome in ended for point in outcome.curve]
    columns = ["task", "setting", "method", "seed", "step", "loss", "validation_psnr", "learning_rate"]
    return pd.DataFrame(records, columns=columns)


def _metrics(summary: pd.DataFrame) -> dict[str, Any]:
    """The JSON twin that `dvc metrics diff` compares."""
    costs = ("parameters_network", "parameters_trainable", "step_total", "inference_total", "flops")
    found: dict[str, Any] = {}
    for _, row in summary.iterrows():
        place = found
        for name in ("task", "dataset", "setting", "protocol", "method"):
            place = place.setdefault(str(row[name]), {})
        scores = [name for metric in get_protocol(row.protocol).metrics for name in (metric, f"{metric}_sd")]
        place |= {name: plain(row[name]) for name in (*scores, *costs)}
        place["status"] = row["status"]
    return found
