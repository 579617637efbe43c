"""What papers and repositories report, with its source; never mixed across operators or protocols."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from lorun.config import PhysicsConfig

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


def published_scores(task: str, dataset: str, method: str, physics: PhysicsConfig) -> list[Score]:
    """All published scores of `method` with the same dataset, kind of operator and setting, the most trusted first.

    An entry without `operator` is of a task that knows one kind alone.
    """
    said = _published().get(task, [])
    found = [
        _score(entry, physics.published_as)
        for entry in (said if isinstance(said, list) else [])  # those by kernel (sr) are of no one setting
        if (entry["method"], entry["dataset"]) == (method, dataset)
        and entry.get("operator", physics.kind) == physics.kind
        and physics.published_as in entry["psnr_ssim"]
    ]
    return sorted(found, key=lambda score: _CONFIDENCE.index(score.confidence))


def lorun_claims(task: str) -> dict[str, Any]:
    """What the LoRun paper reports for a task: `params_M`, `block9_params_M` (millions) and more, and `stages`."""
    said = _published()["lorun"]
    return {**said.get(task, {}), "stages": said["stages"]}


def _score(entry: dict[str, Any], setting: float | str) -> Score:
    psnr, ssim = entry["psnr_ssim"][setting]
    return Score(psnr, ssim, entry["protocol"], entry["source"], entry["confidence"])


@cache
def _published() -> dict[str, Any]:
    said: dict[str, Any] = yaml.safe_load(files("lorun.results").joinpath("published.yaml").read_text(encoding="utf-8"))
    return said
