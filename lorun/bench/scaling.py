"""Parameters and bytes of every strategy as the number of stages grows (`scaling.csv`, `scaling.png`).

Everything is counted, nothing measured, at the sizes of the profile's accounting section.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.progress import track

from lorun.accounting import inference_bytes
from lorun.accounting.fake import fake_tensors
from lorun.accounting.parameters import count_parameters
from lorun.accounting.prediction import OF_STAGES, inference_build, predict_steps, resized
from lorun.errors import LorunError, UnknownName
from lorun.files import write_atomically
from lorun.methods import Experiment
from lorun.profiles import Profile
from lorun.provenance import provenance
from lorun.step import at_precision
from lorun.system import build_system

REFERENCE = "block_k"
_SAME = {"lorun_transfer": "lorun", "lorun_random": "lorun"}  # the same network with other values, so counted once
_WHERE = ("commit", "dirty", "versions", "python")
_COMPARED = ("parameters_network", "step_total", "inference_total")


def stage_range(text: str) -> range:
    """The stages that "1-20" or "9" says.

    Raises:
        LorunError: anything else, or not within 1 to 100.
    """
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    found = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
    if not found or found[0] < 1 or found[-1] > 100:
        raise LorunError(f"stages {text!r}: say a number or a range of 1 to 100, as in 9 or 1-20")
    return found


def sizes(profile: Profile, task: str | None = None, setting: str | None = None) -> Experiment:
    """An experiment with the sizes to count at: of the first task and its last setting, or of those named.

    Raises:
        UnknownName: there is no such task or setting.
    """
    task = task or next(iter(profile.tasks))
    if task not in profile.tasks:
        raise UnknownName("task", task, profile.tasks)
    of = profile.tasks[task]
    setting = setting or list(of.settings)[-1]
    if setting not in of.settings:
        raise UnknownName("setting", setting, of.settings)
    return profile.experiment(task, setting, of.methods_of(setting)[0], profile.seeds[0])


def count(experiment: Experiment, stages: Sequence[int]) -> pd.DataFrame:
    """A row per strategy (`block1` aside), K and what is recomputed; shows progress.

    `parameters_held` are those that memory holds, operator and frozen ones included; `step_*` and `inference_*` bytes
    at the peak, by kind; `*_to_separate` the ratio to Block-K with as many stages and the same recomputation.
    """
    cases = [(strategy, k) for strategy in OF_STAGES if strategy not in _SAME for k in stages]
    shown = track(cases, description="counting", disable=not sys.stderr.isatty())
    frame = pd.DataFrame(row for strategy, k in shown for row in _rows(experiment, strategy, k))
    twins = [frame[frame.method == original].assign(method=twin) for twin, original in _SAME.items()]
    frame = pd.concat([frame, *twins], ignore_index=True)
    reference = frame[frame.method == REFERENCE].set_index(["stages", "recompute"])
    same = pd.MultiIndex.from_frame(frame[["stages", "recompute"]])
    ratios = {
        f"{name}_to_{REFERENCE}": (frame[name].to_numpy() / reference.loc[same, name].to_numpy()).round(4)
        for name in _COMPARED
    }
    counted = frame.drop(columns=list(_WHERE))
    return pd.concat([counted, pd.DataFrame(ratios), frame[list(_WHERE)]], axis=1)


def _rows(experiment: Experiment, strategy: str, stages: int) -> Iterator[dict[str, Any]]:
    cpu = torch.device("cpu")
    named = experiment.model_copy(
        update={"method": strategy, "training": at_precision(experiment.training, cpu), "weights": None}
    )
    of = resized(named, stages=stages)
    size, channels = of.accounting, of.data.channels
    with fake_tensors():
        parameters = count_parameters(build_system(of))
    inference = inference_bytes(inference_build(of), (1, channels, size.image, size.image))
    where = provenance(of, {}, cpu)
    for recompute, step in predict_steps(of, size.batch, size.patch).items():
        yield {
            "task": of.task,
            "setting": of.setting,
            "method": strategy,
            "stages": stages,
            "recompute": recompute,
            "precision": of.training.precision,
            "optimizer": of.training.optimizer,
            "batch": size.batch,
            "patch": size.patch,
            "image": size.image,
            "parameters_network": parameters.network,
            "parameters_trainable": parameters.trainable,
            "parameters_held": parameters.total,
            **{f"step_{kind}": value for kind, value in asdict(step).items()},
            **{f"inference_{kind}": value for kind, value in asdict(inference).items()},
            **{name: where[name] for name in _WHERE},
        }


def write_figure(frame: pd.DataFrame, path: Path) -> None:
    """Step peak and network parameters of Block-K and LoRun against K."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (memory, size) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for method, label, colour in ((REFERENCE, "Block-K", "C0"), ("lorun", "LoRun", "C1")):
        of = frame[frame.method == method]
        for recompute, style in (("none", "-"), ("stage", "--")):
            one = of[of.recompute == recompute]
            memory.plot(one.stages, one.step_total / 1e6, style, color=colour, label=f"{label}, recompute {recompute}")
        once = of[of.recompute == "none"]
        size.plot(once.stages, once.parameters_network / 1e6, color=colour, label=label)
    first = frame.iloc[0]
    memory.set_ylabel(f"MB at the peak of a step\n{first.batch} patches of {first.patch} pixels, {first.precision}")
    size.set_ylabel("parameters of the network (millions)")
    for axes in (memory, size):
        axes.set_xlabel("stages K")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    # No version in the file: the same figure gives the same bytes.
    write_atomically(path, lambda part: figure.savefig(part, format="png", dpi=150, metadata={"Software": None}))
    plt.close(figure)
