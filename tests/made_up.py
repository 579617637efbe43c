"""Made-up runs, result sets and repositories, for tests of what is made of them."""

import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from lorun.evaluation.kept import image_path, write_image
from lorun.evaluation.protocols import get_protocol
from lorun.methods import Experiment
from lorun.profiles import Profile
from lorun.results.paths import EVALUATION, account_path
from lorun.results.store import RUN, ResultSet, code_id, new_result_set, write_evaluation
from lorun.training.outcome import CurvePoint, Outcome, write_outcome

CODE = {"lorun.system": "0123456789ab", "lorun.unfolding": "ba9876543210"}
"""What the runs say they were trained with; they are evaluated with its first module only."""

PROVENANCE = {
    "commit": "f" * 40,
    "dirty": False,
    "data_md5": "tiny=" + "0" * 32 + ".dir",
    "versions": "torch=2.15.0 peft=0.21.2",
    "python": "3.11.7",
    "device": "cpu",
    "threads": 1,
}


def results_of(rows: Iterable[Mapping[str, Any]], accounts: Iterable[Mapping[str, Any]] = ()) -> ResultSet:
    """A result set from rows that also have the columns of their run; rows without a value count for the run only."""
    rows = list(rows)
    runs = {tuple(row[name] for name in RUN): row for row in reversed(rows)}
    measured = [row for row in rows if row["value"] is not None]
    return new_result_set("made_up", {}, runs=list(runs.values())[::-1], rows=measured, accounting=accounts)


def write_runs(profile: Profile, runs: Path, *images: str) -> Path:
    """Write what training, evaluation and accounting leave of every experiment of `profile`; returns `runs`."""
    for place, experiment in enumerate(profile.experiments()):
        write_training(experiment, runs)
        write_scores(experiment, runs, images, 20.0 + place)
        write_account(experiment, runs, 100 + place)
        for image in set(images) & set(experiment.evaluation.keep):
            for dataset in experiment.test:
                pixels = torch.rand(experiment.channels, 40, 40, generator=torch.Generator().manual_seed(place))
                write_image(image_path(runs / experiment.folder, dataset, image), pixels)
    return runs


def write_training(experiment: Experiment, runs: Path, status: str = "completed", **changes: Any) -> None:
    point = CurvePoint(step=4, loss=0.1, validation_psnr=25.5, learning_rate=0.001)
    fields = {"steps": 8, "total_steps": 8, "scored_step": 8, "checkpoint_policy": "last", "seconds": 1.5}
    fields |= {"cuda_peak_bytes": None, "unmoved": [], "provenance": {**PROVENANCE, "code": CODE}, "curve": [point]}
    write_outcome(runs / experiment.folder, Outcome(status=status, **{**fields, **changes}))


def write_scores(experiment: Experiment, runs: Path, images: Iterable[str], value: float, **changes: Any) -> None:
    run = {**experiment.labels, "run": experiment.key, "config_hash": experiment.config_hash, "status": "completed"}
    run |= {"steps": 8, "scored_step": 8, "checkpoint_policy": "last", "trained_commit": "e" * 40}
    run |= {"trained_dirty": False, "trained_device": "cpu", "trained_threads": 1, "trained_code": CODE, **PROVENANCE}
    run |= {"training_flops": 6_000_000_000, "precision": "float32"}
    run |= {"code": dict(list(CODE.items())[:1]), **changes}
    rows = [
        {
            **experiment.labels,
            "dataset": dataset,
            "image": image,
            "degradation": degradation,
            "protocol": protocol,
            "metric": metric,
            "value": value + place / 3,
        }
        for dataset in experiment.test
        for place, image in enumerate(images)
        for degradation in experiment.physics.degradations or (None,)
        for protocol in experiment.evaluation.protocols
        for metric in get_protocol(protocol).metrics
    ]
    write_evaluation(runs / experiment.folder / EVALUATION, run, rows)


def write_account(experiment: Experiment, runs: Path, count: int) -> None:
    method = {name: experiment.labels[name] for name in ("task", "setting", "method")}
    account = {**method, "stages": 3, "m": 16, "parameters_network": count, "parameters_trainable": count}
    account |= {"step_batch": 2, "step_patch": 16, "step_precision": "float32", "step_recompute": "none"}
    account |= {"step_total": 1000 * count, "step_phase": "backward", "image": 24, "inference_total": 500, "flops": 7}
    account |= {"latency_median_ms": 1.25, "latency_min_ms": 1.0, "latency_max_ms": 2.0, "latency_repeats": 1}
    account |= {"latency_device": "some CPU", "latency_threads": 1}
    account |= {"run": experiment.key, "config_hash": experiment.config_hash, "account_key": experiment.account_key}
    account |= {**PROVENANCE, "code": CODE}
    path = account_path(runs, experiment)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(account))


def code_ids() -> set[str | None]:
    """The ids of the code that the made-up runs name."""
    return {code_id(CODE), code_id(dict(list(CODE.items())[:1]))}


def git(root: Path, *words: str) -> str:
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
    command = ["git", "-C", str(root), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
