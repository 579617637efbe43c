"""The kept reconstructions as the page holds them: the same window of every method's, with that of the truth."""

import base64
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lorun.data.images import Pixels, load_dataset, read_image
from lorun.data.measurements import holds_measurements
from lorun.data.rendering import to_pixels
from lorun.errors import LorunError
from lorun.evaluation.kept import image_path
from lorun.profiles import Profile, TaskConfig
from lorun.report.tables import Section

SIDE = 256
"""Pixels. What is larger is shown by a window of this side, around the crop that the strip shows."""

LIMIT = 16_000_000
"""Bytes of all reconstructions in a page; further images are named, not shown."""


class Crops:
    """Looks for what the runs of a result set have kept."""

    def __init__(self, profile: Profile, rows: pd.DataFrame, folder: Path, *, runs: Path, data: Path) -> None:
        self._profile, self._folder, self._runs, self._data = profile, folder, runs, data
        self._rows = rows
        self._truths: dict[tuple[str, str], Mapping[str, np.ndarray | None] | str] = {}

    def of(self, sections: Sequence[Section]) -> list[dict[str, Any]]:
        """For each section: its `images` (name, window, panels), and the names that are `left_out` for their bytes.

        A panel has a title and either a PNG, as a `data:` address, or the message why there is none. The first image
        of every section goes before the second of any, so that none is left out for another's sake.
        """
        found: list[dict[str, Any]] = [{"images": [], "left_out": []} for _ in sections]
        used = 0
        for turn in range(max((len(self._kept(section)) for section in sections), default=0)):
            for section, of in zip(sections, found, strict=True):
                if turn >= len(self._kept(section)):
                    continue
                image = self._kept(section)[turn]
                shown = self._image(section, image)
                if shown is None:
                    continue
                size = sum(len(panel.get("png", "")) for panel in shown["panels"])
                if used + size > LIMIT:
                    of["left_out"].append(image)
                    continue
                used += size
                of["images"].append(shown)
        return found

    def figures(self, sections: Sequence[Section]) -> list[dict[str, str | None]]:
        """For each section the figures that `lorun table` drew, as `data:` addresses, or None: `strip`, `spectra`."""
        found = []
        for section in sections:
            name = f"{section.task}_{section.dataset}_{section.setting}.png"
            paths = {kind: self._folder / f"{kind}_{name}" for kind in ("strip", "spectra")}
            found.append({kind: _address(path.read_bytes()) if path.exists() else None for kind, path in paths.items()})
        return found

    def _kept(self, section: Section) -> list[str]:
        """The images of a section's dataset that the profile keeps."""
        task = self._profile.tasks.get(section.task)
        of = self._rows[(self._rows[["task", "dataset"]] == [section.task, section.dataset]).all(axis=1)]
        names = set(of.image)
        return [] if task is None else [image for image in task.evaluation.keep if image in names]

    def _image(self, section: Section, image: str) -> dict[str, Any] | None:
        """None where no run has kept it."""
        task = self._profile.tasks[section.task]
        channels = 1 if task.data.channels == 1 else 3
        panels: list[dict[str, Any]] = []
        read: list[Pixels | None] = []
        for row in self._first_seed(section, image):
            path = image_path(self._runs / _run_folder(row), section.dataset, image)
            panel: dict[str, Any] = {"title": row.method, "score": None if pd.isna(row.value) else float(row.value)}
            pixels = None
            if path.exists():
                try:
                    pixels = read_image(path, channels)
                except LorunError as error:
                    panel["message"] = str(error)
            elif row.status != "completed":
                panel["message"] = row.status if pd.isna(row.message) else f"{row.status}: {row.message}"
            else:
                panel["message"] = f"not kept: {path} is missing"
            panels.append(panel)
            read.append(pixels)
        known = [pixels for pixels in read if pixels is not None]
        if not known:
            return None
        truth = {"title": "truth", "score": None}
        true = self._truth(section, task, image)
        panels.insert(0, truth)
        if isinstance(true, str):
            truth["message"] = true
            read.insert(0, None)
        else:
            read.insert(0, true)
        height, width = known[0].shape[1:]
        top, left, rows, columns = _window(height, width, task.evaluation.strip)
        for panel, pixels in zip(panels, read, strict=True):
            if pixels is not None:
                panel["png"] = _address(_png(pixels[:, top : top + rows, left : left + columns]))
        window = {"top": top, "left": left, "rows": rows, "columns": columns, "height": height, "width": width}
        return {"image": image, **window, "panels": panels}

    def _first_seed(self, section: Section, image: str) -> list[Any]:
        """A row for each method: the leading score of the image with its first seed, under its first degradation."""
        place = [section.task, section.dataset, section.setting, section.protocol, section.metrics[0].name]
        of = self._rows[(self._rows[["task", "dataset", "setting", "protocol", "metric"]] == place).all(axis=1)]
        of = of[of.image.isna() | (of.image == image)]  # what has no result has a row without an image
        return list(of.drop_duplicates("method").itertuples())

    def _truth(self, section: Section, task: TaskConfig, image: str) -> Pixels | str:
        """The pixels of the truth, or the reason why there are none."""
        key = (section.dataset, section.task)
        if key not in self._truths:
            self._truths[key] = self._load(section.dataset, task.data.channels)
        known = self._truths[key]
        if isinstance(known, str):
            return known
        true = known.get(image)
        return f"{section.dataset} has no image {image}" if true is None else to_pixels(true)

    def _load(self, dataset: str, channels: int) -> Mapping[str, np.ndarray | None] | str:
        try:
            if holds_measurements(self._data, dataset):
                return "no truth: a real capture"
            return load_dataset(self._data, dataset, "test", channels)
        except LorunError as error:
            return str(error)


def _run_folder(row: Any) -> Path:
    return Path(row.task, row.setting, row.method, f"seed{row.seed}-{row.run}")


def _window(height: int, width: int, strip: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Top, left, rows and columns of what is shown: all of a small image, of others the surroundings of the strip."""
    top, left, side = strip
    rows, columns = min(SIDE, height), min(SIDE, width)
    first_row = min(max(top + side // 2 - rows // 2, 0), height - rows)
    first_column = min(max(left + side // 2 - columns // 2, 0), width - columns)
    return first_row, first_column, rows, columns


def _png(pixels: Pixels) -> bytes:
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _address(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
