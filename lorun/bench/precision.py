"""LoRun with its base stored in fewer bits: bytes held, bytes of inference, and PSNR (`precision.csv`)."""

from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import pandas as pd
import torch

from lorun.accounting import inference_bytes
from lorun.adapters.precision import PRECISIONS, Precision, hold_base
from lorun.bench.steps import bytes_held
from lorun.bench.variants import benchmarked, where
from lorun.data.images import load_dataset
from lorun.evaluation.protocols import get_protocol
from lorun.evaluation.reconstruct import load_system, reconstruct
from lorun.methods import Experiment
from lorun.profiles import load_profile
from lorun.system import System


def measure(config: Path, *, runs: Path, data: Path) -> pd.DataFrame:
    """A row per precision and test set, from the trained LoRun of the profile (`lorun.bench.variants.benchmarked`).

    Raises:
        LorunError: that run has not been trained; a test set is missing.
    """
    experiment = benchmarked(load_profile(config))
    protocol = experiment.evaluation.protocols[0]
    side, channels = experiment.accounting.image, experiment.channels
    rows = []
    for precision in PRECISIONS:
        build = partial(_build, experiment, runs, precision)
        peak = inference_bytes(build, (1, channels, side, side), fake=False)
        system = _load(experiment, runs, precision)
        network: Any = system.network
        base = network.denoisers[0]
        adapters = sum(parameter.nbytes for name, parameter in base.named_parameters() if "lora_" in name)
        for dataset in experiment.test:
            images = reconstruct(system, load_dataset(data, dataset, "test", channels), torch.device("cpu"))
            rows.append(
                {
                    "profile": config.stem,
                    **experiment.labels,
                    "dataset": dataset,
                    "precision": precision,
                    "protocol": protocol,
                    "psnr": round(fmean(image.scores(get_protocol(protocol))["psnr"] for image in images), 4),
                    "psnr_change": 0.0,
                    "base_bytes_held": bytes_held(base) - adapters,
                    "network_bytes_held": bytes_held(network),
                    "inference_peak_bytes": peak.total,
                    "run": experiment.key,
                    **where(torch.get_num_threads()),
                }
            )
    frame = pd.DataFrame(rows)
    full = frame.groupby("dataset").psnr.transform("first")  # float32 comes first
    frame["psnr_change"] = (frame.psnr - full).round(4)
    return frame


def _load(experiment: Experiment, runs: Path, precision: str) -> System:
    system = load_system(experiment, runs)
    network: Any = system.network
    hold_base(network.denoisers[0], cast(Precision, precision))
    return system


def _build(experiment: Experiment, runs: Path, precision: str) -> tuple[Any, Any]:
    side = experiment.accounting.image
    system = _load(experiment, runs, precision)
    return system.network, system.physics.at(side, side)
