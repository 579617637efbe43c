"""LoRun with its base held in fewer bits: bytes of inference, and the PSNR that they cost (`precision.csv`)."""

from pathlib import Path
from typing import Any

import pandas as pd
import torch

from lorun.accounting import inference_bytes
from lorun.adapters.precision import PRECISIONS, hold_base
from lorun.bench.machine import where
from lorun.bench.steps import bytes_held
from lorun.bench.variants import benchmarked
from lorun.data.images import load_dataset
from lorun.evaluation.protocols import get_protocol
from lorun.evaluation.reconstruct import load_system, reconstruct
from lorun.profiles import load_profile
from lorun.system import System


def measure(config: Path, *, runs: Path, data: Path) -> pd.DataFrame:
    """A row per precision and test set, of the run of LoRun in the profile's last setting with a fixed operator.

    Raises:
        LorunError: that run has not been trained; its test sets are missing.
    """
    experiment = benchmarked(load_profile(config))
    protocol = get_protocol(experiment.evaluation.protocols[0])
    side, channels = experiment.accounting.image, experiment.channels
    rows = []
    for precision in PRECISIONS:

        def build(precision: Any = precision) -> tuple[Any, Any]:
            system = _held(load_system(experiment, runs), precision)
            return system.network, system.physics.at(side, side)

        peak = inference_bytes(build, (1, channels, side, side), fake=False)
        system = _held(load_system(experiment, runs), precision)
        for dataset in experiment.test:
            images = load_dataset(data, dataset, "test", channels)
            done = reconstruct(system, images, torch.device("cpu"))
            scores = [one.scores(protocol) for one in done]
            rows.append(
                {
                    "profile": config.stem,
                    **experiment.labels,
                    "dataset": dataset,
                    "precision": precision,
                    "protocol": experiment.evaluation.protocols[0],
                    "psnr": round(sum(one["psnr"] for one in scores) / len(scores), 4),
                    "base_bytes_held": _base_bytes(system),
                    "network_bytes_held": bytes_held(system.network),
                    "inference_peak_bytes": peak.total,
                    "run": experiment.key,
                    **where(torch.get_num_threads(), "cpu"),
                }
            )
    frame = pd.DataFrame(rows)
    full = frame.groupby("dataset").psnr.transform("first")  # float32 comes first
    frame.insert(list(frame.columns).index("psnr") + 1, "psnr_change", (frame.psnr - full).round(4))
    return frame


def _held(system: System, precision: Any) -> System:
    network: Any = system.network
    hold_base(network.denoisers[0], precision)
    return system


def _base_bytes(system: System) -> int:
    network: Any = system.network
    adapted = network.denoisers[0]
    return bytes_held(adapted) - sum(p.nbytes for name, p in adapted.named_parameters() if "lora_" in name)
