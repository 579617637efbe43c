"""Reconstructions as the page shows them: the same window of every method and of the true image."""

import base64
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from lorun.data.images import Pixels, load_dataset, read_image
from lorun.data.measurements import holds_measurements
from lorun.errors import LorunError
from lorun.evaluation.kept import image_path
from lorun.evaluation.rendering import to_pixels
from lorun.profiles import Profile
from lorun.report.provenance import run_folder
from lorun.report.tables import Section
from lorun.results.store import METHOD, ResultSet, records

SIDE = 256
"""Pixels: a larger image is shown by a window with this side."""


class Crops:
    """The reconstructions that the runs of a result set have kept."""

    def __init__(self, profile: Profile, results: ResultSet, *, runs: Path, data: Path) -> None:
        self._profile, self._runs, self._data = profile, runs, data
        self._rows = results.rows
        self._first_runs = results.runs.drop_duplicates(list(METHOD))
        self._load = cache(load_dataset)

    def of(self, section: Section) -> list[dict[str, Any]]:
        """The images of a section that some run has kept: name, window and panels.

        A panel has a title and either a PNG as a `data:` address or a message that says why there is none.
        """
        return [shown for name in self._kept(section) if (shown := self._image(section, name)) is not None]

    def _kept(self, section: Section) -> list[str]:
        """The images of the section's dataset that the profile keeps."""
        task = self._profile.tasks.get(section.task)
        rows = self._rows[(self._rows.task == section.task) & (self._rows.dataset == section.dataset)]
        scored = set(rows.image)
        return [] if task is None else [image for image in task.evaluation.keep if image in scored]

    def _image(self, section: Section, image: str) -> dict[str, Any] | None:
        """An image with a panel for the truth and for each method; None if no run has kept it."""
        task = self._profile.tasks[section.task]
        panels = self._panels(section, image, channels=1 if task.data.channels == 1 else 3)
        sizes = [panel["pixels"].shape[1:] for panel in panels if "pixels" in panel]
        if not sizes:
            return None
        panels.insert(0, self._truth(section.dataset, image, task.data.channels))
        height, width = sizes[0]
        top, left, rows, columns = _window(height, width, task.evaluation.strip)
        for panel in panels:
            if "pixels" in panel:
                panel["png"] = _png(panel.pop("pixels")[:, top : top + rows, left : left + columns])
        window = {"top": top, "left": left, "rows": rows, "columns": columns, "height": height, "width": width}
        return {"image": image, **window, "panels": panels}

    def _panels(self, section: Section, image: str, channels: int) -> list[dict[str, Any]]:
        """A panel with `pixels` or a message for each method, from the first seed and under the first degradation."""
        place = {"task": section.task, "dataset": section.dataset, "setting": section.setting, "image": image}
        place |= {"protocol": section.protocol, "metric": section.metrics[0].name}
        rows = self._rows[(self._rows[list(place)] == list(place.values())).all(axis=1)]
        scores = rows.drop_duplicates("method").set_index("method")["value"]
        runs = self._first_runs[(self._first_runs.task == section.task) & (self._first_runs.setting == section.setting)]
        panels = []
        for run in records(runs[runs.method.isin(section.lines.method)]):
            panel: dict[str, Any] = {"title": run["method"], "score": scores.get(run["method"])}
            path = image_path(self._runs / run_folder(run), section.dataset, image)
            try:
                if path.exists():
                    panel["pixels"] = read_image(path, channels)
                elif run["status"] == "completed":
                    panel["message"] = f"not kept: {path} is missing"
                else:
                    panel["message"] = run["status"] + (f": {run['message']}" if run["message"] else "")
            except LorunError as error:
                panel["message"] = str(error)
            panels.append(panel)
        return panels

    def _truth(self, dataset: str, image: str, channels: int) -> dict[str, Any]:
        """The panel of the true image: `pixels`, or a message that says why there are none."""
        panel = {"title": "truth", "score": None}
        try:
            if holds_measurements(self._data, dataset):
                return {**panel, "message": "no truth: a real capture"}
            true = self._load(self._data, dataset, "test", channels).get(image)
        except LorunError as error:
            return {**panel, "message": str(error)}
        if true is None:
            return {**panel, "message": f"{dataset} has no image {image}"}
        return {**panel, "pixels": to_pixels(true)}


def picture(path: Path) -> str | None:
    """A PNG file as a `data:` address; None if there is none."""
    return _address(path.read_bytes()) if path.exists() else None


def _window(height: int, width: int, strip: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Top, left, rows and columns of what is shown: a small image whole, else the surroundings of the strip."""
    top, left, side = strip
    rows, columns = min(SIDE, height), min(SIDE, width)
    first_row = min(max(top + side // 2 - rows // 2, 0), height - rows)
    first_column = min(max(left + side // 2 - columns // 2, 0), width - columns)
    return first_row, first_column, rows, columns


def _png(pixels: Pixels) -> str:
    """Pixels as a PNG in a `data:` address."""
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(stream, "PNG", optimize=True)
    return _address(stream.getvalue())


def _address(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
