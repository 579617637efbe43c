"""What papers and repositories report, with its source; never mixed across sampling matrices.

The table of published values names no protocols, so a value stands beside ours under each of them.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from lorun.config import BlockCSConfig

_CONFIDENCE = ("own", "cited", "note", "inferred")  # best first


@dataclass(frozen=True)
class Score:
    """A published score: PSNR in dB, SSIM (null where not reported), where it stands and how far it can be trusted."""

    psnr: float
    ssim: float | None
    source: str
    confidence: str


def matrix_kind(physics: BlockCSConfig) -> str:
    """The kind of sampling matrix as the published tables name it: fixed_gaussian_33, learned_32, ..."""
    return f"{physics.matrix if physics.learned else 'fixed_gaussian'}_{physics.block}"


def published_score(task: str, dataset: str, method: str, physics: BlockCSConfig) -> Score | None:
    """The most trusted published score of `method` with the same dataset, kind of matrix and ratio, or None."""
    found = [
        _score(entry, physics.ratio)
        for entry in _published().get(task, [])
        if (entry["method"], entry.get("dataset"), entry.get("phi")) == (method, dataset, matrix_kind(physics))
        and physics.ratio in entry["psnr_ssim"]
    ]
    return min(found, key=lambda score: _CONFIDENCE.index(score.confidence), default=None)


def lorun_claims(task: str) -> dict[str, Any]:
    """What the LoRun paper reports for a task: `params_M`, `block9_params_M` (millions) and more, and `stages`."""
    said = _published()["lorun"]
    return {**said.get(task, {}), "stages": said["stages"]}


def _score(entry: dict[str, Any], setting: float) -> Score:
    psnr, ssim = entry["psnr_ssim"][setting]
    return Score(psnr, ssim, entry["source"], entry["confidence"])


@cache
def _published() -> dict[str, Any]:
    said: dict[str, Any] = yaml.safe_load(files("lorun.results").joinpath("published.yaml").read_text(encoding="utf-8"))
    return said
