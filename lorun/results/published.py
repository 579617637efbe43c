"""What papers and repositories report, with its source; never mixed across sampling matrices or protocols."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from lorun.config import BlockCSConfig

_CONFIDENCE = ("own", "cited", "note", "inferred")  # best first


@dataclass(frozen=True)
class Score:
    """A published score: PSNR in dB, SSIM (None where not reported), the protocol that it was measured with (None where
    the source does not say), where it stands and how far it can be trusted."""

    psnr: float
    ssim: float | None
    protocol: str | None
    source: str
    confidence: str


def matrix_kind(physics: BlockCSConfig) -> str:
    """The kind of sampling matrix as the published tables name it: fixed_gaussian_33, learned_32, ..."""
    return f"{physics.matrix if physics.learned else 'fixed_gaussian'}_{physics.block}"


def published_scores(task: str, dataset: str, method: str, physics: BlockCSConfig) -> list[Score]:
    """All published scores of `method` with the same dataset, kind of matrix and ratio, the most trusted first."""
    found = [
        _score(entry, physics.ratio)
        for entry in _published().get(task, [])
        if (entry["method"], entry.get("dataset"), entry.get("phi")) == (method, dataset, matrix_kind(physics))
        and physics.ratio in entry["psnr_ssim"]
    ]
    return sorted(found, key=lambda score: _CONFIDENCE.index(score.confidence))


def lorun_claims(task: str) -> dict[str, Any]:
    """What the LoRun paper reports for a task: `params_M`, `block9_params_M` (millions) and more, and `stages`."""
    said = _published()["lorun"]
    return {**said.get(task, {}), "stages": said["stages"]}


def _score(entry: dict[str, Any], ratio: float) -> Score:
    psnr, ssim = entry["psnr_ssim"][ratio]
    return Score(psnr, ssim, entry["protocol"], entry["source"], entry["confidence"])


@cache
def _published() -> dict[str, Any]:
    said: dict[str, Any] = yaml.safe_load(files("lorun.results").joinpath("published.yaml").read_text(encoding="utf-8"))
    return said
