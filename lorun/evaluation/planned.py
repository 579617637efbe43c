"""The rows that an experiment is to have, before there are images and values."""

from collections.abc import Iterator
from typing import Any

from lorun.config import Experiment
from lorun.evaluation.protocols import get_protocol


def planned_rows(experiment: Experiment) -> Iterator[dict[str, Any]]:
    """One row per dataset, degradation, protocol and metric, of no image and without a value."""
    for dataset in experiment.data.test:
        for degradation in experiment.physics.degradations or (None,):
            for protocol in experiment.evaluation.protocols:
                for metric in get_protocol(protocol).metrics:
                    yield {
                        **experiment.labels,
                        "dataset": dataset,
                        "image": None,
                        "degradation": degradation,
                        "protocol": protocol,
                        "metric": metric,
                        "value": None,
                    }
