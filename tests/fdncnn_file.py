"""Weights of FDnCNN in a file like those that its authors released."""

from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np


def write_fdncnn(path: Path, *, channels: int = 1, width: int = 4, depth: int = 4) -> list[np.ndarray]:
    """A file like those released, with random kernels, which it returns as (out, in, height, width)."""
    random = np.random.default_rng(0)
    widths = [channels + 1, *[width] * (depth - 1), channels]
    kernels = []
    with h5py.File(path, "w") as file:
        references = file.create_group("#refs#")

        def layer(**content: object) -> h5py.Reference:
            group = references.create_group(str(len(references)))
            for name, value in content.items():
                group[name] = value
            return group.ref

        def text(name: str) -> np.ndarray:
            return np.array([[ord(letter)] for letter in name], np.uint16)

        layers = [layer(type=text("concat"))]
        for number, (inputs, outputs) in enumerate(pairwise(widths)):
            kernel = random.normal(scale=0.2, size=(outputs, inputs, 3, 3)).astype(np.float32)
            kernels.append(kernel)
            stored = kernel.transpose(0, 1, 3, 2)
            file[f"kernel{number}"] = stored[0] if outputs == 1 else stored
            file[f"bias{number}"] = random.normal(size=(1, outputs)).astype(np.float32)
            weights = np.array([[file[f"kernel{number}"].ref], [file[f"bias{number}"].ref]], h5py.ref_dtype)
            layers += [layer(type=text("conv"), weights=weights), layer(type=text("relu"))]
        file["net/layers"] = np.array([[one] for one in layers], h5py.ref_dtype)
    return kernels
