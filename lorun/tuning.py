"""Choose learning rates by rule: short trainings for each value of a grid, whole ones for the best of them, judged on
validation images. Where no whole training completes, lower values follow until one does.

Every trained method, a lab's own baseline too, has the same number of trials of the same cost. The base of an adapted
strategy is tuned before it, as a method of its own, so that both together cost what the tuning of any method costs.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from filelock import FileLock

from lorun.errors import LorunError
from lorun.methods import Experiment
from lorun.profiles import Profile
from lorun.profiles.trials import Trial, read_trials, write_trials
from lorun.training import train
from lorun.training.outcome import Outcome


def tune(profile: Profile, task: str, method: str, *, runs: Path, data: Path, device: torch.device) -> list[Trial]:
    """Run the trials of a method, or finish them, and mark the best. A trial that diverges is an outcome.

    Raises:
        LorunError: the base of the method is not tuned yet; no trial completed; or as `lorun.training.train` does.
    """

    def trials(values: Sequence[float], whole: bool) -> list[Trial]:
        return [_trial(profile, task, method, value, whole, runs, data, device) for value in values]

    grid = profile.grid(task, method)
    found = trials(grid, whole=False)
    best = _best(found)
    if finalists := profile.finalists(task, method, best.value):
        whole = trials(finalists, whole=True)
        for value in reversed(grid[: grid.index(finalists[0])]):
            if any(trial.validation_psnr is not None for trial in whole):
                break
            whole = [*trials([value], whole=True), *whole]
        found, best = [*found, *whole], _best(whole)
    return [trial.model_copy(update={"chosen": trial is best}) for trial in found]


def _best(trials: Sequence[Trial]) -> Trial:
    scores = {trial.validation_psnr: trial for trial in reversed(trials) if trial.validation_psnr is not None}
    if not scores:
        values = ", ".join(f"{trial.value:g}" for trial in trials)
        raise LorunError(
            f"{trials[0].task}: no training of {trials[0].method!r} completed with {trials[0].parameter} {values}: "
            "give lower values in `training.tuning`"
        )
    return scores[max(scores)]


def record(path: Path, trials: Sequence[Trial]) -> list[Trial]:
    """Write trials of one method into the table at `path` instead of those it had; return all. Several processes may
    do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / f".{path.name}.lock"):
        new = (trials[0].task, trials[0].method)
        found = [*(trial for trial in read_trials(path) if (trial.task, trial.method) != new), *trials]
        found.sort(key=lambda trial: (trial.task, trial.method))
        write_trials(path, found)
    return found


def _trial(
    profile: Profile, task: str, method: str, value: float, whole: bool, runs: Path, data: Path, device: torch.device
) -> Trial:
    experiment = profile.trial(task, method, value, whole)
    before = 0 if experiment.base is None else _base(profile, experiment.base, runs, data, device).training_flops
    outcome = train(experiment, runs=runs, data=data, device=device)
    return Trial(
        task=task,
        setting=experiment.setting,
        method=method,
        parameter=profile.tasks[task].tuned_parameter(method),
        value=value,
        whole=whole,
        run=experiment.key,
        status=outcome.status,
        validation_psnr=_last_score(outcome),
        steps=outcome.steps,
        training_flops=outcome.training_flops - before,
        chosen=False,
    )


def _base(profile: Profile, base: Experiment, runs: Path, data: Path, device: torch.device) -> Outcome:
    """Train the base of a trial, and its own base, unless that is done."""
    profile.check_tuned(base.task, base.method)
    if base.base is not None:
        _base(profile, base.base, runs, data, device)
    return train(base, runs=runs, data=data, device=device)


def _last_score(outcome: Outcome) -> float | None:
    """Validation PSNR after the last step; None if the training did not complete."""
    if outcome.status != "completed" or not outcome.curve:
        return None
    score = outcome.curve[-1].validation_psnr
    return None if score is None else round(score, 6)
