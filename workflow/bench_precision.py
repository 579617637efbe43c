"""Store the base of a trained LoRun in fewer bits: bytes held, bytes of inference, and PSNR.

`python workflow/bench_precision.py` writes `results/bench/precision.csv`. The LoRun of `quick` must have been trained.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import torch

from lorun.accounting.live_bytes import inference_bytes
from lorun.adapters.precision import PRECISIONS, hold_base
from lorun.bench.steps import bytes_held
from lorun.bench.variants import benchmarked, where
from lorun.data.images import load_dataset
from lorun.evaluation.protocols import get_protocol
from lorun.evaluation.reconstruct import load_system, reconstruct
from lorun.methods import Experiment
from lorun.profiles import load_profile
from lorun.results.store import write_table

CONFIG = Path("config/quick.yaml")
OUT = Path("results/bench/precision.csv")


def measure() -> pd.DataFrame:
    """A row per precision and test set, from the trained LoRun of the profile (`lorun.bench.variants.benchmarked`).

    Raises:
        LorunError: that run has not been trained; a test set is missing.
    """
    experiment = benchmarked(load_profile(CONFIG))
    rows = [row for precision in PRECISIONS for row in _rows(experiment, precision)]
    frame = pd.DataFrame({"profile": CONFIG.stem, **row, **where(torch.get_num_threads())} for row in rows)
    full = frame.groupby("dataset").psnr.transform("first")  # float32 comes first
    frame["psnr_change"] = (frame.psnr - full).round(4)
    return frame


def _rows(experiment: Experiment, precision: Any) -> Iterator[dict[str, Any]]:
    protocol = experiment.evaluation.protocols[0]
    side, channels = experiment.accounting.image, experiment.channels
    system: Any = load_system(experiment, Path("runs"))
    base = system.network.denoisers[0]
    hold_base(base, precision)
    peak = inference_bytes(
        lambda: (system.network, system.physics.at(side, side)), (1, channels, side, side), fake=False
    )
    adapters = sum(parameter.nbytes for name, parameter in base.named_parameters() if "lora_" in name)
    for dataset in experiment.test:
        images = reconstruct(system, load_dataset(Path("data"), dataset, "test", channels), torch.device("cpu"))
        yield {
            **experiment.labels,
            "dataset": dataset,
            "precision": precision,
            "protocol": protocol,
            "psnr": round(fmean(image.scores(get_protocol(protocol))["psnr"] for image in images), 4),
            "psnr_change": 0.0,
            "base_bytes_held": bytes_held(base) - adapters,
            "network_bytes_held": bytes_held(system.network),
            "inference_peak_bytes": peak.total,
            "run": experiment.key,
        }


if __name__ == "__main__":
    write_table(OUT, measure())
