"""What papers and repositories report, with its source; never mixed across operators or protocols."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from lorun.physics import PhysicsConfig

_CONFIDENCE = ("own", "cited", "note", "inferred")  # best first


@dataclass(frozen=True)
class Score:
    """A published score: PSNR in dB, SSIM (None where not reported), the protocol that it was measured with (None where
    the source does not say), where it stands and how far it can be trusted, and the degradation of the operator that it
    holds for (None where that has none, or for the mean over all)."""

    psnr: float
    ssim: float | None
    protocol: str | None
    source: str
    confidence: str
    degradation: str | None = None


def published_scores(task: str, dataset: str, method: str, physics: PhysicsConfig) -> list[Score]:
    """All published scores of `method` with the same dataset, kind of operator and setting, the most trusted first.

    An entry without `operator` is of a task that knows one kind alone. Scores of other degradations than those of
    `physics` are left out.
    """
    found = [
        score
        for entry in _entries(task, dataset, physics)
        if entry["method"] == method
        for score in _scores(entry, physics.published_as)
        if score.degradation is None or score.degradation in physics.degradations
    ]
    return sorted(found, key=lambda score: _CONFIDENCE.index(score.confidence))


def published_methods(task: str, dataset: str, physics: PhysicsConfig) -> list[str]:
    """The methods that there are such scores of, in the order of the file."""
    return list(dict.fromkeys(entry["method"] for entry in _entries(task, dataset, physics)))


def lorun_claims(task: str) -> dict[str, Any]:
    """What the LoRun paper reports for a task: `params_M`, `block9_params_M` (millions) and more, and `stages`."""
    said = _published()["lorun"]
    return {**said.get(task, {}), "stages": said["stages"]}


def _entries(task: str, dataset: str, physics: PhysicsConfig) -> Iterator[dict[str, Any]]:
    for entry in _published().get(task, []):
        kinds = entry.get("operator", physics.kind)
        if (
            entry["dataset"] == dataset
            and physics.kind in ([kinds] if isinstance(kinds, str) else kinds)
            and physics.published_as in entry["psnr" if "degradations" in entry else "psnr_ssim"]
        ):
            yield entry


def _scores(entry: dict[str, Any], setting: float | str) -> Iterator[Score]:
    said = entry["protocol"], entry["source"], entry["confidence"]
    if "degradations" not in entry:
        psnr, ssim = entry["psnr_ssim"][setting]
        yield Score(psnr, ssim, *said)
        return
    for degradation, psnr in zip(entry["degradations"], entry["psnr"][setting], strict=True):
        yield Score(psnr, None, *said, str(degradation))


@cache
def _published() -> dict[str, Any]:
    said: dict[str, Any] = yaml.safe_load(files("lorun.results").joinpath("published.yaml").read_text(encoding="utf-8"))
    return said
