"""Whether two sets of images show the same: copies of other sizes, crops and mirrored ones, found by their content.

A keypoint of one image and one of another that look alike say where, and how large, the one image would lie in the
other. There their surroundings are aligned and compared, first near the keypoints, then farther around, in their course
and in their detail. Brightness and contrast do not matter.

Keypoints: SIFT (Lowe, IJCV 2004), compared by the roots of their descriptors (Arandjelovic and Zisserman,
CVPR 2012). Alignment: the correlation is maximised over affine maps (Evangelidis and Psarakis, IEEE TPAMI 2008).

Not found: what was rotated, scaled by more than `LARGEST_RATIO`, or has hardly any structure; and what two images share
of less than 32 x 32 pixels of the coarser one.
"""

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

LARGEST_RATIO = 2.7
"""Of the sizes of two copies."""

DISTANCE = 0.1
"""Largest squared distance of two descriptors, which have norm 1, that look alike.

In copies of another size nine in ten are below 0.03. The nearest of 200,000 keypoints of other images is at 0.17 in the
median, and below 0.064 for one in a hundred."""

SIDES = (64, 160)
"""Of the surroundings that are compared, in pixels of the coarser image; less where an image ends."""

SMALLEST = 32
"""Side of the least surroundings."""

COURSE = 0.9
DETAIL = 0.6
"""Correlations from which on surroundings are the same: of the pixels, and of what a mean over 5 x 5 of them leaves.

Nine in ten places of copies stored again as JPEG of quality 75, of any size, are above 0.97 and 0.86. No two different
images of the suite exceed 0.75 and 0.35 at both sides."""

_PIXELS_PER_KEYPOINT, _FEWEST, _MOST = 300, 100, 3000
_CONTRAST = 0.002  # of keypoints; with the usual 0.02, a blurred crop of 128 x 128 pixels has two
_NEIGHBOURS = 4  # looked at for every keypoint
_CHECKS = 128  # leaves of the search trees that are visited for it
_TURN = 20  # degrees between two keypoints, at most
_LIKELY = 0.5  # correlation from which on an alignment is tried
_MARGIN = 4  # pixels by which it may shift
_DISTORTION = 0.15  # and by how much it may change the scale

Gray = NDArray[np.uint8]
Place = tuple[float, float]  # x, y


class Overlap(NamedTuple):
    """What two images share, by one place of it (row and column in either) and how well they agree there.

    `scale` is the size of things in the training image over that in the test image.
    """

    test: str
    training: str
    mirrored: bool
    scale: float
    test_place: tuple[int, int]
    training_place: tuple[int, int]
    course: float
    detail: float


class _Image(NamedTuple):
    gray: Gray
    places: list[Place]  # of the keypoints
    sizes: list[float]
    angles: list[float]  # of the strongest gradients, degrees
    descriptors: NDArray[np.float32]  # (N, 128)


class _Match(NamedTuple):
    """A place of the coarser image, the same one of the finer, and pixels of the finer for one of the coarser."""

    coarse: Place
    fine: Place
    ratio: float
    course: float = 0.0
    detail: float = 0.0


def find_overlaps(test: Mapping[str, np.ndarray], training: Mapping[str, np.ndarray]) -> list[Overlap]:
    """One overlap of every pair of a test and a training image that have one, sorted by their names.

    Images are photographs, uint8 (1, H, W), or cubes (28, H, W), of which the mean over the bands is looked at, as
    bright as it can be.
    """
    trainings = {name: _described(_gray(image)) for name, image in training.items()}
    owners = [(name, number) for name, image in trainings.items() for number in range(len(image.places))]
    if len(owners) < _NEIGHBOURS:
        return []
    index = cv2.flann.Index(
        np.concatenate([one.descriptors for one in trainings.values()]), {"algorithm": 1, "trees": 4}
    )
    found: dict[tuple[str, str], Overlap] = {}
    for name, pixels in test.items():
        plain = _described(_gray(pixels))
        for mirrored, image in ((False, plain), (True, _mirrored(plain))):
            for number, neighbour in _look_alikes(image, index):
                other, other_number = owners[neighbour]
                if (name, other) not in found:
                    overlap = _overlap(image, number, trainings[other], other_number)
                    if overlap is not None:
                        scale, (x, y), (u, v), *agreement = overlap
                        column = plain.gray.shape[1] - 1 - x if mirrored else x
                        places = (round(y), round(column)), (round(v), round(u))
                        found[name, other] = Overlap(name, other, mirrored, scale, *places, *agreement)
    return sorted(found.values())


def _gray(image: np.ndarray) -> Gray:
    """(1, H, W) uint8 or (28, H, W) -> (H, W) uint8."""
    if len(image) == 1:
        return image[0]
    mean = np.asarray(image).mean(axis=0)
    return np.rint(mean * (255 / max(float(mean.max()), 1e-6))).astype(np.uint8)


def _described(gray: Gray) -> _Image:
    """An image with its strongest keypoints, in number proportional to its area."""
    return _described_once(gray.tobytes(), gray.shape)


@lru_cache(maxsize=16)
def _described_once(content: bytes, shape: tuple[int, int]) -> _Image:
    """So that a test may look at the same few images again and again."""
    gray = np.frombuffer(content, np.uint8).reshape(shape).copy()
    count = min(max(gray.size // _PIXELS_PER_KEYPOINT, _FEWEST), _MOST)
    points, descriptors = cv2.SIFT_create(nfeatures=count, contrastThreshold=_CONTRAST).detectAndCompute(gray, None)
    if not points:
        descriptors = np.zeros((0, 128), np.float32)
    return _Image(
        gray,
        places=[point.pt for point in points],
        sizes=[point.size for point in points],
        angles=[point.angle for point in points],
        descriptors=np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1)),
    )


def _mirrored(image: _Image) -> _Image:
    """The image from left to right.

    A descriptor holds 4 x 4 histograms of 8 directions, with the direction of `angles` as x.
    """
    width = image.gray.shape[1]
    histograms = image.descriptors.reshape(-1, 4, 4, 8)[:, ::-1, :, -np.arange(8) % 8]
    return image._replace(
        gray=np.ascontiguousarray(image.gray[:, ::-1]),
        places=[(width - 1 - x, y) for x, y in image.places],
        angles=[180 - angle for angle in image.angles],
        descriptors=np.ascontiguousarray(histograms.reshape(-1, 128)),
    )


def _look_alikes(image: _Image, index: cv2.flann.Index) -> Iterator[tuple[int, int]]:
    """Numbers of keypoints and of those in the index that look alike, the most similar ones first."""
    if not image.places:
        return
    nearest, distances = index.knnSearch(image.descriptors, _NEIGHBOURS, params={"checks": _CHECKS})
    for entry in distances.argsort(axis=None):
        number, rank = divmod(int(entry), _NEIGHBOURS)
        if distances[number, rank] > DISTANCE:
            return
        yield number, int(nearest[number, rank])


def _overlap(
    image: _Image, number: int, other: _Image, other_number: int
) -> tuple[float, Place, Place, float, float] | None:
    """Whether two images are the same around two keypoints: scale, place here and there, course and detail."""
    here, there = image.places[number], other.places[other_number]
    scale = other.sizes[other_number] / image.sizes[number]
    turn = (other.angles[other_number] - image.angles[number] + 180) % 360 - 180
    if max(scale, 1 / scale) > LARGEST_RATIO or abs(turn) > _TURN:
        return None
    match: _Match | None = _Match(here, there, scale) if scale >= 1 else _Match(there, here, 1 / scale)
    for side in SIDES:
        pair = (image.gray, other.gray) if scale >= 1 else (other.gray, image.gray)
        match = _aligned(*pair, match, side)
        if match is None or match.course < COURSE or match.detail < DETAIL:
            return None
    if scale >= 1:
        return match.ratio, match.coarse, match.fine, match.course, match.detail
    return 1 / match.ratio, match.fine, match.coarse, match.course, match.detail


def _aligned(coarse: Gray, fine: Gray, match: _Match, side: int) -> _Match | None:
    """The match after an alignment of its surroundings, and their agreement; None where they differ or are small."""
    ranges = [_shared_range(coarse.shape[1 - axis], fine.shape[1 - axis], match, axis, side) for axis in (0, 1)]
    if any(high - low < SMALLEST for low, high in ranges):
        return None
    (left, right), (top, bottom) = ranges
    starts, ends = (
        [round(match.fine[axis] + (edges[end] - match.coarse[axis]) * match.ratio) for axis, edges in enumerate(ranges)]
        for end in (0, 1)
    )
    here = coarse[top:bottom, left:right]
    region = fine[max(0, starts[1]) : ends[1], max(0, starts[0]) : ends[0]]
    there = cv2.resize(region, here.shape[::-1], interpolation=cv2.INTER_AREA)
    if _correlation(here, there) < _LIKELY:
        return None
    inner = np.ascontiguousarray(here[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN])
    start = np.array([[1, 0, _MARGIN], [0, 1, _MARGIN]], np.float32)
    try:
        _, warp = cv2.findTransformECC(inner, there, start, cv2.MOTION_AFFINE, (3, 30, 1e-3))
    except cv2.error:  # no alignment correlates
        return None
    if np.abs(warp[:, :2] - np.eye(2)).max() > _DISTORTION:
        return None
    size = inner.shape[::-1]
    warped = cv2.warpAffine(
        there, warp, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT
    )
    zoom = np.array(region.shape[::-1]) / there.shape[::-1]
    centre = (np.array(size) - 1) / 2
    place = (warp[:, :2] @ centre + warp[:, 2] + 0.5) * zoom - 0.5 + np.maximum(starts, 0)
    return _Match(
        coarse=(left + _MARGIN + centre[0], top + _MARGIN + centre[1]),
        fine=(float(place[0]), float(place[1])),
        ratio=float(zoom.mean() * np.sqrt(np.linalg.det(warp[:, :2]))),
        course=_correlation(inner, warped),
        detail=_correlation(_detail(inner), _detail(warped)),
    )


def _shared_range(length: int, fine_length: int, match: _Match, axis: int, side: int) -> tuple[int, int]:
    """First and last + 1 pixel along an axis of the coarser image that lie in both images and in the surroundings."""
    middle = match.coarse[axis]
    before = min(side / 2, middle, match.fine[axis] / match.ratio)
    after = min(side / 2, length - middle, (fine_length - match.fine[axis]) / match.ratio)
    return math.ceil(middle - before), math.floor(middle + after)


def _detail(pixels: Gray) -> NDArray[np.float32]:
    pixels = pixels.astype(np.float32)
    return (pixels - cv2.blur(pixels, (5, 5)))[2:-2, 2:-2]


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Normalised; 0 where one of the two differs from its mean by less than a grey level."""
    one, other = (pixels.astype(np.float32) - pixels.mean() for pixels in (one, other))
    norms = [float(np.linalg.norm(pixels)) for pixels in (one, other)]
    return float((one * other).sum()) / (norms[0] * norms[1]) if min(norms) > one.size**0.5 else 0.0
