"""A sheet that shows a picture before and after, whole and in detail."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from lorun.evaluation.rendering import to_pixels
from lorun.files import write_atomically

_DETAIL = 96
"""Side of the detail in the middle, pixels."""


def write_sheet(path: Path, panels: Mapping[str, Tensor]) -> None:
    """Write images (C, H, W) in [0, 1] of one size, by title, side by side as a PNG, their details below."""
    from matplotlib.figure import Figure

    height, width = next(iter(panels.values())).shape[1:]
    side = min(_DETAIL, height, width)
    top, left = (height - side) // 2, (width - side) // 2
    figure = Figure(figsize=(4 * len(panels), 4 * (height / width + 1) + 0.5), layout="constrained")
    axes = figure.subplots(2, len(panels), squeeze=False, height_ratios=[height / width, 1])
    for (whole, detail), (title, image) in zip(axes.T, panels.items(), strict=True):
        pixels = to_pixels(image.numpy()).transpose(1, 2, 0)
        whole.set_title(title)
        for axis, shown in ((whole, pixels), (detail, pixels[top : top + side, left : left + side])):
            axis.imshow(shown.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set_axis_off()
    write_atomically(path, lambda part: figure.savefig(part, format="png", dpi=150))
