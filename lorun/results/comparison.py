"""Published scores against ours: delta, tolerance and verdict, one row per published score, protocol and metric."""

from typing import Any

import pandas as pd

from lorun.evaluation.protocols import get_protocol
from lorun.profiles import Profile
from lorun.results.degradations import values
from lorun.results.published import published_scores

TOLERANCE = {"psnr": 0.01, "ssim": 0.0005}
"""How far a reproduction may be off: the last digit that papers print (dB), and five units of it (SSIM)."""

COLUMNS = (
    *("task", "dataset", "simulated", "setting", "operator", "protocol", "method", "metric", "degradation"),
    *("published", "ours", "delta", "tolerance", "verdict", "weights", "confidence", "source"),
)


def compare(profile: Profile, summary: pd.DataFrame, degradations: pd.DataFrame) -> pd.DataFrame:
    """Every published score of a method, dataset, kind of operator and setting beside ours; that of a degradation
    beside ours under the same (`degradations` is from `lorun.results.degradations.by_degradation`).

    `weights` is "released" for the authors' own, "trained" for those of this suite's budget. Verdicts:

    * reproduced, off: the authors' weights, measured the same way; within the tolerance or not;
    * other training: the weights are ours, so the published score is a landmark, not a claim about this code;
    * protocol unknown: the source does not say how it measured; beside our leading protocol;
    * missing: there is no score of ours.
    """
    records = []
    under = values(degradations)
    for _, row in summary.iterrows():
        task = profile.tasks[row.task]
        physics = task.physics_of(row.setting)
        weights = "released" if row.method in task.weights else "trained"
        for score in published_scores(row.task, row.dataset, row.method, physics):
            if row.protocol != (score.protocol or task.evaluation.protocols[0]):
                continue
            for metric, tolerance in TOLERANCE.items():
                published = getattr(score, metric)
                if published is None or metric not in get_protocol(row.protocol).metrics:
                    continue
                ours = row[metric]
                if score.degradation is not None:
                    which = (row.task, row.dataset, row.setting, row.method, row.protocol, metric, score.degradation)
                    ours = under.get(which)
                ours = None if pd.isna(ours) else float(ours)
                delta = None if ours is None else round(ours - published, 6)
                judged = weights == "released" and score.protocol is not None
                records.append(
                    {
                        **{name: row[name] for name in COLUMNS if name in summary},
                        "metric": metric,
                        "degradation": score.degradation,
                        "published": published,
                        "ours": ours,
                        "delta": delta,
                        "tolerance": tolerance if judged else None,
                        "verdict": _verdict(delta, tolerance, weights, score.protocol),
                        "weights": weights,
                        "confidence": score.confidence,
                        "source": score.source,
                    }
                )
    return pd.DataFrame(records, columns=list(COLUMNS))


def _verdict(delta: float | None, tolerance: float, weights: str, protocol: Any) -> str:
    if delta is None:
        return "missing"
    if protocol is None:
        return "protocol unknown"
    if weights != "released":
        return "other training"
    return "reproduced" if abs(delta) <= tolerance else "off"
