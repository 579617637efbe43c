"""Whether two sets of images show the same: copies, crops and mirrored ones, found by their content.

Structured patches of each image are looked for in every image of the other set: first in versions reduced eightfold,
by normalised cross-correlation, so that brightness and contrast do not matter; what correlates there is compared at
full resolution, in its course and in its detail. Not found: what was scaled or rotated, or shows fewer than 64 x 64
pixels of the same.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PATCH = 64
"""Side of a patch, pixels."""

PATCHES = 4
"""Looked for of each image."""

COARSE = 0.86
COURSE = 0.90
DETAIL = 0.80
"""Correlations from which on patches are compared at full resolution, and are taken for the same: of the reduced
versions, of the pixels, and of the pixels without what a blur over 5 x 5 of them leaves.

Crops stored again as JPEG of quality 75 with a fifth less contrast reach 0.98 and 0.6 and more in the latter two; 2
pixels off the reduced grid in both directions, fine texture correlates as little as 0.88 in the first."""

_REDUCTION = 8
_SHIFT = 4  # of the grid of the reduced versions, so that no crop is far off it
_SIDE = PATCH // _REDUCTION


class Overlap(NamedTuple):
    """A patch that two images share: where it is in either (top, left), and how well it agrees."""

    test: str
    training: str
    mirrored: bool
    place: tuple[int, int]
    course: float
    detail: float


def find_overlaps(test: Mapping[str, np.ndarray], training: Mapping[str, np.ndarray]) -> list[Overlap]:
    """The best shared patch of every pair of a test and a training image that share one.

    Images are photographs, uint8 (1, H, W), or cubes (28, H, W), of which the mean over the bands is looked at, as
    bright as it can be. Those smaller than a patch are enlarged by mirroring, and so found only as a whole. `place` is
    in the test image.
    """
    found: dict[tuple[str, str], Overlap] = {}
    for mirrored in (False, True):
        tests = {name: _prepared(image) for name, image in test.items()}
        trainings = {name: _prepared(image[..., ::-1] if mirrored else image) for name, image in training.items()}
        for name, other, agreement in _shared_patches(tests, trainings):
            _keep(found, Overlap(name, other, mirrored, agreement[0], *agreement[2:]))
        for name, other, agreement in _shared_patches(trainings, tests):  # a training image may be the crop
            _keep(found, Overlap(other, name, mirrored, agreement[1], *agreement[2:]))
    return sorted(found.values())


Agreement = tuple[tuple[int, int], tuple[int, int], float, float]  # place here and there, course, detail


def _keep(found: dict[tuple[str, str], Overlap], overlap: Overlap) -> None:
    pair = (overlap.test, overlap.training)
    if pair not in found or found[pair].detail < overlap.detail:
        found[pair] = overlap


def _prepared(image: np.ndarray) -> Tensor:
    """(1, H, W) uint8 or (28, H, W) -> (H, W) float32 in grey levels, at least a patch large."""
    if len(image) > 1:
        mean = image.mean(axis=0, keepdims=True)
        image = mean * (255 / max(float(mean.max()), 1e-6))  # a scene may be dark: only structure above a level counts
    pixels = torch.tensor(np.ascontiguousarray(image), dtype=torch.float32)
    while min(pixels.shape[1:]) < PATCH:
        grow = [min(max(PATCH - side, 0), side - 1) for side in pixels.shape[1:]]
        pixels = F.pad(pixels, (0, grow[1], 0, grow[0]), mode="reflect")
    return pixels[0]


def _shared_patches(images: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> Iterator[tuple[str, str, Agreement]]:
    """Patches of `images` that are in `others`: the names of both, and how they agree."""
    places = {name: _structured_places(image) for name, image in images.items()}
    owners = [(name, place) for name, corners in places.items() for place in corners]
    patches = [_reduced(_cut(images[name], place)) for name, place in owners]
    if not patches:
        return
    templates = _normalised(torch.stack(patches).flatten(1))  # (N, side**2)
    for other_name, other in others.items():
        scores, near = _best_places(templates, other)
        for number in (scores > COARSE).nonzero().flatten().tolist():
            name, place = owners[number]
            agreement = _agreement(_cut(images[name], place), other, near[number])
            if agreement is not None:
                yield name, other_name, (place, *agreement)


def _best_places(templates: Tensor, image: Tensor) -> tuple[Tensor, list[tuple[int, int]]]:
    """Where each reduced patch (N, side**2) correlates best in an image: (N,), and (top, left) in pixels."""
    best = torch.full((len(templates),), -1.0)
    places = [(0, 0)] * len(templates)
    for top, left in product((0, _SHIFT), repeat=2):
        if min(image.shape[0] - top, image.shape[1] - left) < PATCH:
            continue
        reduced = _reduced(image[top:, left:])
        windows = F.unfold(reduced[None, None], _SIDE)[0]  # (side**2, M)
        scores, where = (templates @ _normalised(windows.mT).mT).max(dim=1)  # (N,)
        columns = reduced.shape[1] - _SIDE + 1
        for number in (scores > best).nonzero().flatten().tolist():
            row, column = divmod(int(where[number]), columns)
            places[number] = (top + row * _REDUCTION, left + column * _REDUCTION)
        best = torch.maximum(best, scores)
    return best, places


def _agreement(patch: Tensor, image: Tensor, near: tuple[int, int]) -> tuple[tuple[int, int], float, float] | None:
    """Where in `image`, within a few pixels, `patch` is: place, course and detail; None where it is not."""
    top, left = (max(0, place - _REDUCTION) for place in near)
    region = image[top : top + PATCH + 2 * _REDUCTION, left : left + PATCH + 2 * _REDUCTION]
    grids = (region[row:, column:] for row, column in product((0, 1), repeat=2))  # no place is off all of them
    halves = (_halved(grid) for grid in grids if min(grid.shape) >= PATCH)
    if max(float(_correlation(_halved(patch), half).max()) for half in halves) < COURSE - 0.05:  # cheaper, settles most
        return None
    course = _correlation(patch, region)
    best = int(course.argmax())
    row, column = divmod(best, course.shape[1])
    if course[row, column] < COURSE:
        return None
    there = region[row : row + PATCH, column : column + PATCH]
    detail = float(_correlation(_detail(patch), _detail(there)).max())
    return ((top + row, left + column), float(course[row, column]), detail) if detail >= DETAIL else None


def _correlation(patch: Tensor, region: Tensor) -> Tensor:
    """Normalised cross-correlation of a patch with every window of a region of its size: (H', W')."""
    side = patch.shape[0]
    windows = region.unfold(0, side, 1).unfold(1, side, 1)  # (H', W', side, side)
    scores = _normalised(windows.flatten(2).flatten(0, 1)) @ _normalised(patch.reshape(1, -1))[0]
    return scores.reshape(windows.shape[:2])


def _detail(pixels: Tensor) -> Tensor:
    """What a 5 x 5 mean takes away; noise below a grey level is not structure."""
    return (pixels - F.avg_pool2d(pixels[None, None], 5, 1, 2, count_include_pad=False)[0, 0])[2:-2, 2:-2]


def _structured_places(image: Tensor) -> list[tuple[int, int]]:
    """Top left corners of the patches with the most structure in every direction, at least half a patch apart.

    The smaller eigenvalue of the gradients' covariance measures it (Shi and Tomasi, CVPR 1994): one straight edge, such
    as a photograph's frame, looks like any other.
    """
    reduced = _reduced(image)[None, None]
    down, right = reduced.diff(dim=2)[..., :-1], reduced.diff(dim=3)[..., :-1, :]
    products = torch.cat([down * down, right * right, down * right])  # (3, 1, H - 1, W - 1)
    yy, xx, xy = F.avg_pool2d(products, _SIDE - 1, 1)[:, 0]
    structure = (yy + xx) / 2 - ((yy - xx).square() / 4 + xy.square()).sqrt()
    places: list[tuple[int, int]] = []
    for number in structure.flatten().argsort(descending=True).tolist():
        row, column = (_REDUCTION * index for index in divmod(number, structure.shape[1]))
        if all(max(abs(row - top), abs(column - left)) >= PATCH // 2 for top, left in places):
            places.append((row, column))
        if len(places) == PATCHES:
            break
    return places


def _cut(image: Tensor, place: tuple[int, int]) -> Tensor:
    return image[place[0] : place[0] + PATCH, place[1] : place[1] + PATCH]


def _halved(image: Tensor) -> Tensor:
    return F.avg_pool2d(image[None, None], 2)[0, 0]


def _reduced(image: Tensor) -> Tensor:
    return F.avg_pool2d(image[None, None], _REDUCTION)[0, 0]


def _normalised(vectors: Tensor) -> Tensor:
    """Rows with mean 0 and norm 1; those without structure (less than a grey level) become 0."""
    centred = vectors - vectors.mean(dim=1, keepdim=True)
    norms = centred.norm(dim=1, keepdim=True)
    return torch.where(norms > vectors.shape[1] ** 0.5, centred / norms.clamp_min(1e-6), torch.zeros(()))
