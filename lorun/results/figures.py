"""Figures of a result set: quality against parameters, one crop by every method, and its spectra."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lorun.data.images import Pixels, load_dataset, read_image
from lorun.data.measurements import holds_measurements, load_measurements
from lorun.data.rendering import to_pixels
from lorun.evaluation.kept import image_path, spectra_path
from lorun.evaluation.metrics import METRICS, Metric
from lorun.evaluation.protocols import get_protocol
from lorun.files import write_atomically
from lorun.methods import Experiment
from lorun.profiles import Profile
from lorun.results.summary import shown


def write_figures(profile: Profile, summary: pd.DataFrame, *, runs: Path, data: Path, folder: Path) -> list[Path]:
    """Write `psnr_parameters_TASK_DATASET_SETTING.png`, `strip_...` and, of cubes, `spectra_...`; return their paths.

    The first two show the leading metric of the first protocol, with which the name of the former begins. The others
    show the first of the kept images that the dataset has, with its truth where there is one; where no reconstruction
    of it is in `runs` and there is such a figure already, that stays.
    """
    import matplotlib

    matplotlib.use("Agg")
    written = []
    for (task, dataset, setting), of in summary.groupby(["task", "dataset", "setting"], sort=False):
        evaluation = profile.tasks[str(task)].evaluation
        protocol = get_protocol(evaluation.protocols[0])
        metric = METRICS[protocol.metrics[0]]
        first = of[of.protocol == protocol.name]
        name = f"{task}_{dataset}_{setting}.png"
        heading = profile.tasks[str(task)].physics_of(str(setting)).heading
        against = _score_against_parameters(first, metric, heading)
        written.append(_save(folder / f"{metric.name}_parameters_{name}", against))
        truths = _truths(profile, str(task), str(dataset), data) if evaluation.keep else {}
        kept = next((image for image in evaluation.keep if image in truths), None)
        if kept is not None:
            experiments = [
                profile.experiment(str(task), str(setting), method, profile.seeds[0]) for method in first.method
            ]
            here = any(image_path(runs / one.folder, str(dataset), kept).exists() for one in experiments)
            if not here and (folder / f"strip_{name}").exists():
                continue  # drawn where the reconstructions were
            strip = _strip(experiments, first, metric, str(dataset), kept, truths[kept], runs=runs)
            written.append(_save(folder / f"strip_{name}", strip))
            if evaluation.points:
                spectra = _spectra(experiments, first, str(dataset), kept, runs=runs)
                written.append(_save(folder / f"spectra_{name}", spectra))
    return written


def _truths(profile: Profile, task: str, dataset: str, data: Path) -> Mapping[str, np.ndarray | None]:
    """The test images of a dataset by name; None where there are measurements alone."""
    if holds_measurements(data, dataset):
        return dict.fromkeys(load_measurements(data, dataset, "test"))
    return load_dataset(data, dataset, "test", profile.tasks[task].data.channels)


def _score_against_parameters(summary: pd.DataFrame, metric: Metric, heading: str) -> Any:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    one = summary.iloc[0]
    scored = summary.assign(score=summary[metric.name], sd=summary[f"{metric.name}_sd"]).dropna(subset="score")
    known = scored[scored.parameters_network.fillna(0) > 0]
    for _, row in known.iterrows():
        marker = "D" if str(row.method).startswith("lorun") else "o"
        error = 0.0 if pd.isna(row.sd) else row.sd
        axes.errorbar(row.parameters_network, row.score, yerr=error, fmt=marker, capsize=3)
        axes.annotate(
            row.method,
            (row.parameters_network, row.score),
            xytext=(6, 4),
            textcoords="offset points",
            fontsize=8,
        )
    for _, row in scored[scored.parameters_network == 0].iterrows():
        axes.axhline(row.score, color="0.6", linestyle=":", linewidth=1)
        axes.annotate(
            f"{row.method} (no parameters)",
            (0.02, row.score),
            va="bottom",
            xycoords=("axes fraction", "data"),
            fontsize=8,
        )
    if len(known):
        axes.set_xscale("log")
        axes.margins(x=0.18)
    axes.set_xlabel("parameters of the network (operator not counted)")
    lower = "" if metric.better == "higher" else "\n(lower is better)"
    axes.set_ylabel(f"{metric.heading}, {one.protocol}{lower}")
    dataset, seeds = shown(one.dataset, one.simulated), int(summary.seeds.max())
    axes.set_title(f"{one.task}, {dataset}: mean ± sd over {seeds} seeds\n{heading}", fontsize=10)
    axes.grid(alpha=0.3)
    return figure


def _strip(
    experiments: list[Experiment],
    summary: pd.DataFrame,
    metric: Metric,
    dataset: str,
    image: str,
    truth: np.ndarray | None,
    *,
    runs: Path,
) -> Any:
    """The same crop of a kept image: the truth, if there is one, then every method's reconstruction with the first
    seed. Cubes are shown in the colours that they would have. The truth is cropped as it was for the others."""
    import matplotlib.pyplot as plt

    evaluation, shown_channels = experiments[0].evaluation, 1 if experiments[0].data.channels == 1 else 3
    panels: list[tuple[str, Pixels | None]] = []
    for experiment in experiments:
        path = image_path(runs / experiment.folder, dataset, image)
        panels.append((experiment.method, read_image(path, shown_channels) if path.exists() else None))
    if truth is not None:
        height, width = next((pixels.shape[1:] for _, pixels in panels if pixels is not None), truth.shape[1:])
        panels.insert(0, ("truth", to_pixels(truth[:, :height, :width])))
    top, left, side = evaluation.strip
    scores = summary.set_index("method")[metric.name]
    figure, axes = plt.subplots(1, len(panels), figsize=(1.7 * len(panels), 2.4), layout="constrained", squeeze=False)
    for place, (title, pixels) in zip(axes[0], panels, strict=True):
        place.set_axis_off()
        score = scores.get(title)
        place.set_title(title if pd.isna(score) else f"{title}\n{score:.{metric.digits}f}", fontsize=8)
        if pixels is None:
            place.text(0.5, 0.5, "no result", ha="center", va="center", transform=place.transAxes, fontsize=8)
            continue
        crop = np.moveaxis(pixels[:, top : top + side, left : left + side], 0, -1).squeeze()
        place.imshow(crop, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    figure.suptitle(
        f"{shown(dataset, summary.simulated.iloc[0])}, {image}, rows {top}+{side}, columns {left}+{side}\n"
        f"{metric.heading}: mean over all test images",
        fontsize=8,
    )
    return figure


def _spectra(experiments: list[Experiment], summary: pd.DataFrame, dataset: str, image: str, *, runs: Path) -> Any:
    """The spectra of a kept image at the chosen points: every method's with the first seed, and the truth if known."""
    import matplotlib.pyplot as plt

    points = experiments[0].evaluation.points
    paths = [(one.method, spectra_path(runs / one.folder, dataset, image)) for one in experiments]
    known = [(method, pd.read_csv(path)) for method, path in paths if path.exists()]
    figure, axes = plt.subplots(
        1, len(points), figsize=(3.2 * len(points) + 1.6, 3.2), layout="constrained", squeeze=False, sharey=True
    )
    for place, (row, column) in zip(axes[0], points, strict=True):
        at = [(method, table[(table.row == row) & (table.column == column)]) for method, table in known]
        truth = next((table for _, table in at if table.truth.notna().any()), None)
        if truth is not None:
            place.plot(truth.wavelength, truth.truth, color="0", linestyle="--", label="truth")
        for method, table in at:
            place.plot(table.wavelength, table.estimate, linewidth=1, label=method)
        if not known:
            place.text(0.5, 0.5, "no result", ha="center", va="center", transform=place.transAxes, fontsize=8)
        place.set_title(f"row {row}, column {column}", fontsize=8)
        place.set_xlabel("wavelength (nm)")
        place.grid(alpha=0.3)
    axes[0][0].set_ylabel("value")
    if known:
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.suptitle(f"{shown(dataset, summary.simulated.iloc[0])}, {image}: spectra", fontsize=8)
    return figure


def _save(path: Path, figure: Any) -> Path:
    import matplotlib.pyplot as plt

    # No date and no version in the file: the same figure gives the same bytes.
    write_atomically(path, lambda part: figure.savefig(part, format="png", dpi=150, metadata={"Software": None}))
    plt.close(figure)
    return path
