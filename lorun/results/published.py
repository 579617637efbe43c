"""Scores that papers and repositories report, with their sources."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lorun.config.reading import load_yaml
from lorun.physics import PhysicsConfig

_CONFIDENCE = ("own", "cited", "note")  # best first


@dataclass(frozen=True)
class Score:
    """A published score."""

    psnr: float  # dB
    ssim: float | None  # None if not reported
    protocol: str | None  # that it was measured with, None if the source does not say
    source: str  # where it stands
    confidence: str  # how far it can be trusted
    degradation: str | None = None  # of the operator that it holds for; None for the mean, or without degradations


def published_scores(task: str, dataset: str, method: str, physics: PhysicsConfig) -> list[Score]:
    """All published scores of `method` for the same dataset, kind of operator and setting, the most trusted first.

    An entry without `operator` belongs to a task with one kind of operator. Only scores of degradations that `physics`
    has.
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
    """The methods with such scores, in the order of the file."""
    return list(dict.fromkeys(entry["method"] for entry in _entries(task, dataset, physics)))


def lorun_claims(task: str) -> dict[str, Any]:
    """What the LoRun paper reports for a task.

    `stages`; `params_M` and `block9_params_M` (millions) with their `parameter_ratio`; `step_memory_ratio`, LoRun /
    Block-K; `psnr_difference`, LoRun - Block-K in dB. Keys that the paper has no number for are absent.
    """
    paper = _published()["lorun"]
    found = {**paper["all"], **paper.get(task, {})}
    if "block9_params_M" in found:
        found["parameter_ratio"] = found["params_M"] / found["block9_params_M"]
    return found


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
    source = entry["protocol"], entry["source"], entry["confidence"]
    if "degradations" in entry:
        for degradation, psnr in zip(entry["degradations"], entry["psnr"][setting], strict=True):
            yield Score(psnr, None, *source, str(degradation))
    else:
        psnr, ssim = entry["psnr_ssim"][setting]
        yield Score(psnr, ssim, *source)


@cache
def _published() -> dict[str, Any]:
    content: dict[str, Any] = load_yaml(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
    return content
