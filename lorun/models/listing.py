"""The models in folders, as a table."""

from pathlib import Path

from tabulate import tabulate

from lorun.evaluation.metrics import METRICS
from lorun.models.description import read_description
from lorun.models.model import models_in


def listing(*places: Path) -> str:
    """A line per model, by name: what it restores, its method, size and first score."""
    lines = []
    for name, folder in models_in(*places).items():
        found = read_description(folder)
        experiment, score = found.experiment, next(iter(found.scores), None)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        shown = "" if score is None else f"{score.value:.{METRICS[score.metric].digits}f} on {score.dataset}"
        title = "" if score is None else METRICS[score.metric].heading
        lines.append(
            [name, experiment.method, experiment.physics.heading, f"{size / 1e6:.2f}", f"{title} {shown}".strip()]
        )
    if not lines:
        return f"{places[0]}: no models; `lorun models save` makes one of a finished run"
    return tabulate(lines, ["name", "method", "operator", "MB", "score"], "plain", disable_numparse=True)
