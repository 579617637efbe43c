"""Parameters and bytes of every sharing strategy against the number of stages (`scaling.csv`, `scaling.png`).

Everything is counted, nothing is measured, at the sizes of the profile's accounting section.
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.progress import track

from lorun.accounting.building import inference_build
from lorun.accounting.fake import fake_tensors
from lorun.accounting.live_bytes import inference_bytes
from lorun.accounting.parameters import count_parameters
from lorun.accounting.prediction import predict_steps, resized
from lorun.bench.variants import training_of, with_strategy
from lorun.methods import Experiment
from lorun.provenance import provenance
from lorun.results.colours import look
from lorun.results.figures import save
from lorun.step import counted_precision
from lorun.system import build_system

REFERENCE = "block_k"
STRATEGIES = (REFERENCE, "shared", "shared_sigma", "lorun", "frozen")
"""LoRun stands also for `lorun_transfer` and `lorun_random`, which are the same network with other weights."""

_COMPARED = ("parameters_network", "step_total", "inference_total")


def count(experiment: Experiment, most: int) -> pd.DataFrame:
    """A row per strategy, number of stages from 1 to `most`, and recomputation; shows progress.

    `parameters_held` includes the operator and frozen parameters. `step_*` and `inference_*` are bytes at the peak, by
    kind. `*_to_block_k` is the ratio to Block-K with the same number of stages and the same recomputation.
    """
    cases = [(strategy, k) for strategy in STRATEGIES for k in range(1, most + 1)]
    progress = track(cases, description="counting", disable=not sys.stderr.isatty())
    frame = pd.DataFrame(row for strategy, k in progress for row in _rows(experiment, strategy, k))
    case = ["stages", "recompute"]
    reference = frame[frame.method == REFERENCE].set_index(case)[list(_COMPARED)]
    same = frame[case].join(reference, on=case)
    for name in _COMPARED:
        frame[f"{name}_to_{REFERENCE}"] = (frame[name] / same[name]).round(4)
    source = provenance(experiment, {}, torch.device("cpu"))
    return frame.assign(**{name: source[name] for name in ("commit", "dirty", "versions", "python")})


def _rows(experiment: Experiment, strategy: str, stages: int) -> Iterator[dict[str, Any]]:
    training = counted_precision(training_of(experiment))
    precision = {"precision": training.precision}
    experiment = resized(with_strategy(experiment, strategy), stages=stages, training=precision)
    size, channels = experiment.accounting, experiment.channels
    with fake_tensors():
        parameters = count_parameters(build_system(experiment))
    inference = inference_bytes(inference_build(experiment), (1, channels, size.image, size.image))
    for recompute, step in predict_steps(experiment, size.batch, (size.patch, size.patch)).items():
        yield {
            "task": experiment.task,
            "setting": experiment.setting,
            "method": strategy,
            "stages": stages,
            "recompute": recompute,
            "precision": training.precision,
            "optimizer": training.optimizer,
            "batch": size.batch,
            "patch": size.patch,
            "image": size.image,
            "parameters_network": parameters.network,
            "parameters_trainable": parameters.trainable,
            "parameters_held": parameters.total,
            **{f"step_{kind}": value for kind, value in asdict(step).items()},
            **{f"inference_{kind}": value for kind, value in asdict(inference).items()},
        }


def write_figure(frame: pd.DataFrame, path: Path) -> None:
    """Plot the peak of a step and the parameters of Block-K and LoRun against K."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    memory, size = figure.subplots(1, 2)
    for method, label in ((REFERENCE, "Block-K"), ("lorun", "LoRun")):
        colour = look(method).colour
        for recompute, style in (("none", "-"), ("stage", "--"), ("half_stage", ":")):
            rows = frame[(frame.method == method) & (frame.recompute == recompute)]
            line = {"color": colour, "label": f"{label}, recompute {recompute}"}
            memory.plot(rows.stages, rows.step_total / 1e6, style, **line)
            if recompute == "none":
                size.plot(rows.stages, rows.parameters_network / 1e6, color=colour, label=label)
    first = frame.iloc[0]
    memory.set_ylabel(f"MB at the peak of a step\n{first.batch} patches of {first.patch} pixels, {first.precision}")
    size.set_ylabel("parameters of the network (millions)")
    for axes in (memory, size):
        axes.set_xlabel("stages K")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    save(path, figure)
