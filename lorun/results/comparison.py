"""Published scores against ours: difference, tolerance and verdict."""

import pandas as pd

from lorun.evaluation.protocols import get_protocol
from lorun.profiles import Profile
from lorun.results.published import published_scores
from lorun.results.store import make_table
from lorun.results.summary import BY_DEGRADATION

TOLERANCE = {"psnr": 0.01, "ssim": 0.0005}
"""How far a reproduction may be off: the last digit that papers print (dB), and five units of it (SSIM)."""


def compare(profile: Profile, summary: pd.DataFrame, degradations: pd.DataFrame) -> pd.DataFrame:
    """Each published score with ours for the same method, dataset, kind of operator, setting and degradation.

    `weights` is "released" for those of the authors, "trained" for those that this suite trained. Verdicts:

    * reproduced, off: the authors' weights, measured the same way; within the tolerance or not;
    * other training: we trained the weights, so the published score is for orientation;
    * protocol unknown: the source does not say how it measured; ours is under the leading protocol;
    * missing: we have no score.
    """
    ours_under = degradations.set_index(list(BY_DEGRADATION))["value"].to_dict()
    records = []
    for _, row in summary.iterrows():
        task = profile.tasks[row.task]
        weights = "released" if row.method in task.weights else "trained"
        for score in published_scores(row.task, row.dataset, row.method, task.physics_of(row.setting)):
            if row.protocol != (score.protocol or task.evaluation.protocols[0]):
                continue
            for metric, tolerance in TOLERANCE.items():
                published = getattr(score, metric)
                if published is None or metric not in get_protocol(row.protocol).metrics:
                    continue
                line = {**row, "metric": metric, "degradation": score.degradation}
                by_degradation = ours_under.get(tuple(line[name] for name in BY_DEGRADATION))
                ours = row[metric] if score.degradation is None else by_degradation
                delta = None if pd.isna(ours) else round(float(ours) - published, 6)
                judged = weights == "released" and score.protocol is not None
                records.append(
                    {
                        **line,
                        "published": published,
                        "ours": ours,
                        "delta": delta,
                        "tolerance": tolerance if judged else None,
                        "verdict": verdict(delta, tolerance, weights, score.protocol),
                        "weights": weights,
                        "confidence": score.confidence,
                        "source": score.source,
                    }
                )
    return make_table("comparison", records)


def verdict(delta: float | None, tolerance: float, weights: str, protocol: str | None) -> str:
    """The verdict on a difference, see `compare`."""
    if delta is None:
        return "missing"
    if protocol is None:
        return "protocol unknown"
    if weights != "released":
        return "other training"
    return "reproduced" if abs(delta) <= tolerance else "off"
