"""Figures of a result set: score against parameters, a crop by every method, spectra, and tuning."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lorun.data.images import load_dataset, read_image
from lorun.data.measurements import holds_measurements, load_measurements
from lorun.evaluation.kept import image_path, spectra_path
from lorun.evaluation.metrics import METRICS, Metric
from lorun.evaluation.protocols import get_protocol
from lorun.evaluation.rendering import to_pixels
from lorun.files import write_atomically
from lorun.methods import PRETRAININGS
from lorun.profiles import Profile, TaskConfig
from lorun.results.colours import look
from lorun.results.store import PLACE, grouped, make_table
from lorun.results.summary import leading, shown

FORMATS = ("png", "pdf")


def write_figures(
    profile: Profile, summary: pd.DataFrame, *, runs: Path, data: Path, folder: Path, form: str = "png"
) -> list[Path]:
    """Write `psnr_parameters_TASK_DATASET_SETTING.png`, `strip_...`, `spectra_...` for cubes, and `tuning_TASK.png`
    where learning rates were tuned; return their paths. `form` is one of `FORMATS`. What the profile no longer has
    keeps its figures.

    The first two show the leading metric of the first protocol, whose name the first begins with. Strips and spectra
    show the first image of `evaluation.keep` that the dataset has. They are drawn only if `data` has the dataset and
    `runs` the reconstructions by all methods that have a score.
    """
    written = []
    for (task, dataset, setting), lines in grouped(leading(summary), PLACE).items():
        config = profile.tasks.get(task)
        if config is None or setting not in config.settings:
            continue  # the profile no longer has it
        metric = METRICS[get_protocol(lines.protocol.iloc[0]).metrics[0]]
        name = f"{task}_{dataset}_{setting}.{form}"
        called = shown(dataset, lines.simulated.iloc[0])
        figure = _score_against_parameters(lines, metric, f"{task}, {called}", config.physics_of(setting).heading)
        written.append(save(folder / f"{metric.name}_parameters_{name}", figure))
        truths = _truths(data, dataset, config.data.channels)
        image = next((image for image in config.evaluation.keep if image in truths), None)
        if image is None:
            continue
        scores = lines.set_index("method")[metric.name]
        known = [method for method in scores.index if method in config.methods_of(setting)]
        folders = {one: runs / profile.experiment(task, setting, one, profile.seeds[0]).folder for one in known}
        images = {method: image_path(place, dataset, image) for method, place in folders.items()}
        scored = scores.dropna().index
        if scored.empty or not all(method in images and images[method].exists() for method in scored):
            continue
        strip = _strip(config, images, scores, metric, truths[image], f"{called}, {image}")
        written.append(save(folder / f"strip_{name}", strip))
        if points := config.evaluation.points:
            paths = {method: spectra_path(place, dataset, image) for method, place in folders.items()}
            written.append(save(folder / f"spectra_{name}", _spectra(points, paths, f"{called}, {image}: spectra")))
    trials = make_table("tuning", [trial.model_dump() for trial in profile.trials])
    return written + [
        save(tuning_path(folder, str(task), form), _tuning(lines, str(task))) for task, lines in trials.groupby("task")
    ]


def tuning_path(folder: Path, task: str, form: str = "png") -> Path:
    """Where the figure of a task's tuning lies in a result set."""
    return folder / f"tuning_{task}.{form}"


def save(path: Path, figure: Any) -> Path:
    """Write a figure of matplotlib as PNG or PDF, by the path's suffix: the same bytes for the same figure, because
    version and date are left out."""
    form = path.suffix.removeprefix(".")
    unsaid = {"pdf": ("Creator", "Producer", "CreationDate")}.get(form, ("Software",))
    metadata = dict.fromkeys(unsaid)
    write_atomically(path, lambda part: figure.savefig(part, format=form, dpi=150, metadata=metadata))
    return path


def _truths(data: Path, dataset: str, channels: int) -> Mapping[str, np.ndarray | None]:
    """The test images of a dataset by name, none if it is not here; None for measurements without a ground truth."""
    if not (data / dataset).is_dir():
        return {}
    if holds_measurements(data, dataset):
        return dict.fromkeys(load_measurements(data, dataset, "test"))
    return load_dataset(data, dataset, "test", channels)


def _score_against_parameters(lines: pd.DataFrame, metric: Metric, title: str, heading: str) -> Any:
    figure, [axes] = panels(1, (6.4, 4.2))
    scored = lines.assign(score=lines[metric.name], sd=lines[f"{metric.name}_sd"].fillna(0)).dropna(subset="score")
    networks = scored[scored.parameters_network.fillna(0) > 0]
    for _, row in networks.iterrows():
        colour, marker = look(row.method)
        axes.errorbar(row.parameters_network, row.score, yerr=row.sd, fmt=marker, color=colour, capsize=3)
        place = (row.parameters_network, row.score)
        axes.annotate(row.method, place, xytext=(6, 4), textcoords="offset points", fontsize=8)
    for _, row in scored[scored.parameters_network == 0].iterrows():
        axes.axhline(row.score, color=look(row.method).colour, linestyle=":", linewidth=1)
        place, coordinates = (0.02, row.score), ("axes fraction", "data")
        axes.annotate(f"{row.method} (no parameters)", place, va="bottom", xycoords=coordinates, fontsize=8)
    if len(networks):
        axes.set_xscale("log")
        axes.margins(x=0.18)
    axes.set_xlabel("parameters of the network (operator not counted)")
    lower = "" if metric.better == "higher" else "\n(lower is better)"
    axes.set_ylabel(f"{metric.heading}, {lines.protocol.iloc[0]}{lower}")
    axes.set_title(f"{title}: mean ± sd over {lines.seeds.max()} seeds\n{heading}", fontsize=10)
    axes.grid(alpha=0.3)
    return figure


def _strip(
    task: TaskConfig,
    paths: Mapping[str, Path],
    scores: pd.Series,
    metric: Metric,
    truth: np.ndarray | None,
    title: str,
) -> Any:
    """The same crop of the ground truth, if known, and of the reconstruction by every method, first seed."""
    channels = 1 if task.data.channels == 1 else 3  # cubes are kept as colour pictures
    crops = {method: read_image(path, channels) if path.exists() else None for method, path in paths.items()}
    if truth is not None:  # cropped to what was scored
        height, width = next((pixels.shape[1:] for pixels in crops.values() if pixels is not None), truth.shape[1:])
        crops = {"truth": to_pixels(truth[:, :height, :width]), **crops}
    top, left, side = task.evaluation.strip
    figure, axes = panels(len(crops), (1.7 * len(crops), 2.4))
    for panel, (method, pixels) in zip(axes, crops.items(), strict=True):
        panel.set_axis_off()
        score = scores.get(method)
        panel.set_title(method if pd.isna(score) else f"{method}\n{score:.{metric.digits}f}", fontsize=8)
        if pixels is None:
            panel.text(0.5, 0.5, "no result", ha="center", va="center", transform=panel.transAxes, fontsize=8)
        else:
            crop = np.moveaxis(pixels[:, top : top + side, left : left + side], 0, -1).squeeze()
            panel.imshow(crop, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    where = f"{title}, rows {top}+{side}, columns {left}+{side}"
    figure.suptitle(f"{where}\n{metric.heading}: mean over all test images", fontsize=8)
    return figure


def _spectra(points: list[tuple[int, int]], paths: Mapping[str, Path], title: str) -> Any:
    """Spectra of an image at `evaluation.points`: by every method, first seed, and the ground truth if known."""
    tables = {method: pd.read_csv(path) for method, path in paths.items() if path.exists()}
    figure, axes = panels(len(points), (3.2 * len(points) + 1.6, 3.2), sharey=True)
    for panel, (row, column) in zip(axes, points, strict=True):
        spectra = {name: table[(table.row == row) & (table.column == column)] for name, table in tables.items()}
        truth = next((table for table in spectra.values() if table.truth.notna().any()), None)
        if truth is not None:
            panel.plot(truth.wavelength, truth.truth, color="0", linestyle="--", label="truth")
        for method, table in spectra.items():
            panel.plot(table.wavelength, table.estimate, color=look(method).colour, linewidth=1, label=method)
        panel.set_title(f"row {row}, column {column}", fontsize=8)
        panel.set_xlabel("wavelength (nm)")
        panel.grid(alpha=0.3)
    axes[0].set_ylabel("value")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.suptitle(title, fontsize=8)
    return figure


_RANGE = 2.0  # dB: a failed trial does not hide the differences between methods
_TUNED = {"learning_rate": "learning rate", "adapter_rate": "adapters' rate / common learning rate"}


def _tuning(trials: pd.DataFrame, task: str) -> Any:
    """Validation PSNR against what was tuned: a panel per parameter, a line per method, whole trainings as squares, the
    choice ringed; at the bottom trials without a score, and those more than `_RANGE` below every choice."""
    lowest = trials.validation_psnr[trials.chosen.astype(bool)].min() - _RANGE
    parameters = [name for name in _TUNED if name in set(trials.parameter)]
    figure, axes = panels(len(parameters), (4.6 * len(parameters) + 1.8, 3.6), sharey=True)
    for panel, parameter in zip(axes, parameters, strict=True):
        shown_here = trials[trials.parameter == parameter].sort_values("value")
        panel.set_xscale("log")
        panel.set_xticks(values := shown_here["value"].unique(), [f"{value:g}" for value in values])
        panel.minorticks_off()
        for row, (method, lines) in enumerate(shown_here.groupby("method", sort=False)):
            colour, style = look(str(method)).colour, "--" if str(method) in PRETRAININGS else "-"
            whole = lines.whole.astype(bool)
            short, chosen, scores = lines[~whole], lines[lines.chosen.astype(bool)], lines.validation_psnr
            panel.plot(short["value"], short.validation_psnr, f".{style}", color=colour, linewidth=1, label=method)
            panel.plot(lines["value"][whole], scores[whole], "s", color=colour, markersize=4)
            panel.plot(chosen["value"], chosen.validation_psnr, "o", color=colour, markersize=10, fillstyle="none")
            for marker, off in (("x", lines[scores.isna()]), ("v", lines[scores < lowest])):
                heights, bottom = [0.03 + 0.04 * row] * len(off), panel.get_xaxis_transform()
                panel.plot(off["value"], heights, marker, color=colour, transform=bottom)
        panel.set_xlabel(_TUNED[parameter])
        panel.grid(alpha=0.3)
    axes[0].set_ylabel("validation PSNR (dB)")
    axes[0].set_ylim(bottom=max(axes[0].get_ylim()[0], lowest - 0.5))
    figure.legend(loc="outside right center", fontsize=8)
    below = bool((trials.validation_psnr < lowest).any())
    marks = "■ whole trainings, ○ chosen, × diverged or failed" + ", ▼ below the axis" * below
    figure.suptitle(f"{task}, {trials.setting.iloc[0]}: short trainings (lines); {marks}", fontsize=9)
    return figure


def panels(count: int, size: tuple[float, float], sharey: bool = False) -> tuple[Any, Any]:
    """A figure of matplotlib of a size in inches, and its panels, in a row."""
    from matplotlib.figure import Figure  # here, because it takes long to import

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(1, count, squeeze=False, sharey=sharey)[0]
