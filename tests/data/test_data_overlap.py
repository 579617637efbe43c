"""Copies, crops and scaled ones are found by content, and none of a test image is in a training set."""

from collections import ChainMap
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from overlap import Overlap, find_overlaps
from PIL import Image

from lorun.data.images import Pixels, load_dataset, read_image
from lorun.data.registry import read_registry

DATA = Path(__file__).parents[2] / "data"
REGISTRY = read_registry(DATA)
IMAGE_SETS = [name for name, entry in REGISTRY.items() if "test" in entry.role or "train" in entry.role]
RATIOS = (0.4, 0.55, 0.75, 1.3, 1.9, 2.5)


def photographs(name: str, split: str = "test", channels: int = 1) -> dict[str, np.ndarray]:
    if not (DATA / name).is_dir():
        pytest.skip(f"data/{name} is not there: `lorun data fetch {name}`")
    return {f"{name}/{split}/{image}": pixels for image, pixels in load_dataset(DATA, name, split, channels).items()}


@pytest.fixture(scope="module")
def some(built: Path) -> dict[str, Pixels]:
    """A few embedded photographs of different kinds."""
    images = load_dataset(built, "photos", "train", 1)
    return {name: images[name][:, :300, :400] for name in ("brick", "china", "coffee", "rocket")}


def as_jpeg(image: Pixels, quality: int) -> Pixels:
    stream = BytesIO()
    Image.fromarray(image[0]).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(BytesIO(stream.getvalue())))[None]


def scaled(image: Pixels, ratio: float) -> Pixels:
    height, width = (round(ratio * side) for side in image.shape[1:])
    return np.asarray(Image.fromarray(image[0]).resize((width, height), Image.Resampling.BICUBIC))[None]


PLANTED = {
    "the same": lambda image: image,
    "stored as JPEG": lambda image: as_jpeg(image, 75),
    "darker, with less contrast": lambda image: (image * 0.8 + 20).astype(np.uint8),
    "mirrored": lambda image: image[..., ::-1],
    "a crop of it": lambda image: image[:, 41:170, 67:210],
    "a mirrored crop, stored as JPEG": lambda image: as_jpeg(np.ascontiguousarray(image[:, 61:190, 209:66:-1]), 75),
    "larger than it": lambda image: np.pad(image, ((0, 0), (13, 50), (29, 7)), mode="symmetric"),
    "not scaled evenly": lambda image: np.asarray(Image.fromarray(image[0]).resize((300, 240)))[None],
}


@pytest.mark.parametrize("what", PLANTED)
def test_what_is_planted_is_found_and_nothing_else(some: dict[str, Pixels], what: str) -> None:
    for name in ("china", "coffee"):
        found = find_overlaps({"test": some[name]}, {**some, name: PLANTED[what](some[name])})
        assert [(overlap.test, overlap.training) for overlap in found] == [("test", name)]
        assert found[0].mirrored == ("mirrored" in what)


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_scaled_crop_is_found_with_its_ratio_and_place(some: dict[str, Pixels], ratio: float) -> None:
    image, (top, left) = some["china"], (60, 110)
    crop = as_jpeg(scaled(image[:, top : top + 150, left : left + 160], ratio), 85)
    for mirrored, planted in ((False, crop), (True, crop[..., ::-1])):
        (found,) = find_overlaps({"test": image}, {**some, "china": planted})
        (row, column), (there, across) = found.test_place, found.training_place
        across = planted.shape[2] - 1 - across if mirrored else across
        assert found.mirrored == mirrored
        assert found.scale == pytest.approx(ratio, rel=0.02)
        assert ((row - top) * ratio, (column - left) * ratio) == pytest.approx((there, across), abs=2 * max(ratio, 1))
    (found,) = find_overlaps({"crop": crop}, {"china": image, "brick": some["brick"]})  # the other way round
    assert found.scale == pytest.approx(1 / ratio, rel=0.02)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(top=st.integers(0, 171), left=st.integers(0, 271), side=st.integers(112, 129))
@example(top=163, left=97, side=112)  # an odd place in the finest texture: half the resolution blurs it elsewhere
def test_a_crop_from_anywhere_is_found(some: dict[str, Pixels], top: int, left: int, side: int) -> None:
    crop = some["china"][:, top : top + side, left : left + side]
    if crop.std() < 25:
        return  # sky
    assert find_overlaps({"test": some["china"]}, {"crop": crop, "other": some["brick"]})[0].training == "crop"


@pytest.fixture(scope="module")
def balloons() -> np.ndarray:
    return photographs("cave_mini", "test", 28)["cave_mini/test/balloons_256"]


@pytest.fixture(scope="module")
def cloth() -> dict[str, np.ndarray]:
    return photographs("cave_mini", "train", 28)


@settings(max_examples=10, deadline=None)
@given(
    top=st.integers(0, 96),
    left=st.integers(0, 96),
    side=st.integers(128, 160),  # smaller crops of blurred places have too few keypoints
    exposure=st.floats(0.2, 1),
    mirrored=st.booleans(),
)
@example(top=55, left=88, side=128, exposure=1.0, mirrored=False)  # blurred
def test_a_crop_of_a_cube_is_found_however_it_is_exposed(
    balloons: np.ndarray,
    cloth: dict[str, np.ndarray],
    top: int,
    left: int,
    side: int,
    exposure: float,
    mirrored: bool,
) -> None:
    crop = balloons[:, top : top + side, left : left + side] * np.float32(exposure)
    found = find_overlaps({"test": balloons}, {**cloth, "crop": crop[..., ::-1] if mirrored else crop})
    assert [overlap.training for overlap in found] == ["crop"]  # either way round: a balloon is its own mirror image


def test_a_cube_without_light_overlaps_with_nothing(balloons: np.ndarray) -> None:
    dark = np.zeros((28, 80, 80), np.float32)
    assert find_overlaps({"dark": dark}, {"dark": dark, "balloons": balloons}) == []


def test_different_photographs_do_not_overlap(some: dict[str, Pixels]) -> None:
    names = list(some)
    assert find_overlaps({name: some[name] for name in names[:2]}, {name: some[name] for name in names[2:]}) == []


def test_an_image_smaller_than_a_patch_and_one_without_structure(some: dict[str, Pixels]) -> None:
    flat = np.full((1, 80, 80), 100, dtype=np.uint8)
    small = some["coffee"][:, 100:140, 100:150]
    assert find_overlaps({"flat": flat, "small": small}, {"flat": flat}) == []
    assert find_overlaps({"small": small}, {"small": small})[0].training == "small"


def present(split: str, channels: int) -> dict[str, np.ndarray]:
    """The images of a split of all datasets that are there, by dataset, split and name."""
    spectral = channels == 28
    names = [
        name
        for name in IMAGE_SETS
        if split in (entry := REGISTRY[name]).splits
        and (entry.cubes is not None) == spectral
        and entry.measurements is None
        and (DATA / name).is_dir()
    ]
    return dict(ChainMap(*(photographs(name, split, channels) for name in names)))


@dataclass
class Pass:
    """All overlaps of the test images with training images, and with what was put among these: scaled crops of the test
    images, and the images that the registry excludes."""

    planted: dict[str, str]
    excluded: list[str]
    found: list[Overlap]


@pytest.fixture(scope="module")
def one_pass() -> Pass:
    random = np.random.default_rng(0)
    tests = present("test", 1)
    trainings = present("train", 1) | present("validation", 1)
    planted, copies = {}, {}
    for number, (name, image) in enumerate(sorted(tests.items())):
        if not name.startswith(("bsd68/", "cbsd68/")):
            height, width = image.shape[1:]
            top, left = int(random.integers(height // 3)), int(random.integers(width // 3))
            copy = f"{RATIOS[number % len(RATIOS)]} of {name}"
            planted[copy] = name
            crop = image[:, top : top + 2 * height // 3, left : left + 2 * width // 3]
            copies[copy] = scaled(crop, RATIOS[number % len(RATIOS)])
    excluded = {
        f"{name}/{file}": read_image(DATA / name / file, 1)
        for name, entry in REGISTRY.items()
        for file in entry.excluded
        if (DATA / name).is_dir()
    }
    found = find_overlaps(tests, trainings | copies | excluded)
    cubes = find_overlaps(present("test", 28), present("train", 28) | present("validation", 28))
    return Pass(planted, list(excluded), found + cubes)


def shows_chart(overlap: Overlap) -> bool:
    """Whether what two scenes of CAVE share is the colour chart that stands in most of them."""
    tiles = {"cave9/test/superballs_1_1": (65, 225), "cave9/test/fake_and_real_peppers_0_0": (106, 229)}
    row, column = tiles.get(overlap.test, (-100, -100))
    return (
        overlap.training.startswith("cave")
        and max(abs(overlap.test_place[0] - row), abs(overlap.test_place[1] - column)) <= 30
    )


def test_no_test_image_is_in_a_training_set(one_pass: Pass) -> None:
    added = {*one_pass.planted, *one_pass.excluded}
    assert [overlap for overlap in one_pass.found if overlap.training not in added and not shows_chart(overlap)] == []


def test_crops_of_test_images_at_six_ratios_are_found_among_the_training_images(one_pass: Pass) -> None:
    pairs = {(overlap.training, overlap.test) for overlap in one_pass.found}
    assert {*one_pass.planted.items()} - pairs == set()
    if len(one_pass.planted) < len(RATIOS):
        pytest.skip("too few datasets are there: `lorun data make photos`, `lorun data fetch set5`")
    assert len({copy.split()[0] for copy in one_pass.planted}) == len(RATIOS)


def test_every_excluded_image_would_be_found_if_it_were_put_back(one_pass: Pass) -> None:
    if not one_pass.excluded:
        pytest.skip("data/bsds500 is not there: `lorun data fetch bsds500`")
    pairs = [(overlap.training, overlap.test) for overlap in one_pass.found if overlap.training in one_pass.excluded]
    assert ("bsds500/train/302003.jpg", "set5/test/woman") in pairs or not (DATA / "set5").is_dir()
    assert {training for training, _ in pairs} == {*one_pass.excluded}


def test_every_gray_photograph_of_bsd68_is_found_in_its_colour_twin() -> None:
    """That the check would find them, were they in a training set."""
    gray, colour = photographs("bsd68"), photographs("cbsd68")
    some_gray = dict(list(gray.items())[::9])
    found = find_overlaps(some_gray, colour)
    assert {overlap.test for overlap in found} == set(some_gray)
    assert len(found) == len(some_gray)  # in one each
    assert min(overlap.detail for overlap in found) > 0.9
