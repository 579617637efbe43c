"""The patch stream: a batch is a function of (seed, step); images, places and orientations are drawn fairly."""

import tracemalloc
from itertools import combinations, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorun.errors import LorunError
from lorun.training.patches import PatchStream, in_unit_range, random_blocks


def photo(height: int, width: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (channels, height, width), dtype=np.uint8)


def numbered(height: int, width: int) -> np.ndarray:
    """Every pixel has a value of its own, growing from left to right, then down."""
    assert height * width <= 256
    return np.arange(height * width, dtype=np.uint8).reshape(1, height, width)


def eight_orientations(image: np.ndarray) -> list[np.ndarray]:
    """Of a square (1, side, side): the identity, three rotations, two flips, two transpositions, spelt as indices."""
    x = image[0]
    along_diagonals = [x.T, x[::-1, ::-1].T]
    return [x, x[::-1, ::-1], x[::-1], x[:, ::-1], x.T[::-1], x.T[:, ::-1], *along_diagonals]


@pytest.fixture(scope="module")
def stream() -> PatchStream:
    return PatchStream({"a": photo(20, 31), "b": photo(17, 16, seed=1)}, patch=(16, 16), batch=3, seed=5)


def test_a_batch_is_the_same_whenever_it_is_asked_for(stream: PatchStream) -> None:
    first = stream.batch(7)
    for step in (3, 8, 0):
        stream.batch(step)
    assert torch.equal(stream.batch(7), first)
    again = PatchStream({"a": photo(20, 31), "b": photo(17, 16, seed=1)}, patch=(16, 16), batch=3, seed=5)
    assert torch.equal(again.batch(7), first)


def test_no_two_steps_or_seeds_share_a_batch(stream: PatchStream) -> None:
    streams = [PatchStream({"a": photo(20, 31)}, patch=(16, 16), batch=3, seed=seed) for seed in range(4)]
    batches = {stream.batch(step).numpy().tobytes() for stream in streams for step in range(10)}
    assert len(batches) == 40


def test_drawing_patches_leaves_the_global_generators_alone(stream: PatchStream) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002 (the global one is the subject)
    stream.batch(0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002


@settings(deadline=None, max_examples=30)
@given(first=st.integers(0, 1000), count=st.integers(0, 12))
def test_batches_are_those_of_their_steps_in_order_from_any_first_step(
    stream: PatchStream, first: int, count: int
) -> None:
    batches = list(stream.batches(first, first + count))
    assert len(batches) == count
    assert all(torch.equal(batch, stream.batch(first + at)) for at, batch in enumerate(batches))


@pytest.mark.parametrize("count", [1, 3, 4, 5, 20])
def test_no_batch_is_made_in_vain(stream: PatchStream, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    made = []
    monkeypatch.setattr(PatchStream, "batch", lambda self, step: made.append(step))
    assert len(list(stream.batches(10, 10 + count))) == count
    assert made == list(range(10, 10 + count))


def test_batches_may_be_left_before_their_end(stream: PatchStream) -> None:
    batches = stream.batches(0, 1000)
    taken = list(islice(batches, 2))
    batches.close()  # would hang if the thread ran to the end of the steps
    assert torch.equal(taken[1], stream.batch(1))


def test_an_error_in_the_thread_reaches_the_training(stream: PatchStream, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_at_two(self: PatchStream, step: int) -> torch.Tensor:
        if step == 2:
            raise MemoryError("no room for a batch")
        return torch.zeros(1)

    monkeypatch.setattr(PatchStream, "batch", fail_at_two)
    batches = stream.batches(0, 5)
    next(batches), next(batches)
    with pytest.raises(MemoryError, match="no room"):
        next(batches)


@pytest.mark.parametrize("channels", [1, 3])
def test_shape_type_and_range(channels: int) -> None:
    black_and_white = np.repeat(np.array([[[0, 255] * 12] * 24], dtype=np.uint8), channels, axis=0)
    batch = PatchStream({"bw": black_and_white}, patch=(8, 8), batch=5, seed=0).batch(0)
    assert batch.shape == (5, channels, 8, 8)
    assert batch.dtype == torch.float32
    assert batch.unique().tolist() == [0.0, 1.0]


def test_channels_stay_together() -> None:
    gray = photo(24, 24)
    batch = PatchStream({"a": np.concatenate([gray, gray // 2, 255 - gray])}, patch=(8, 8), batch=4, seed=0).batch(0)
    pixels = (batch * 255).round().to(torch.uint8)
    assert torch.equal(pixels[:, 1], pixels[:, 0] // 2)
    assert torch.equal(pixels[:, 2], 255 - pixels[:, 0])


def test_all_eight_orientations_occur_equally_often() -> None:
    image = numbered(5, 5)
    batch = PatchStream({"a": image}, patch=(5, 5), batch=1600, seed=0).batch(0)
    seen = [patch.tobytes() for patch in (batch[:, 0] * 255).round().to(torch.uint8).numpy()]
    counts = [seen.count(turned.tobytes()) for turned in eight_orientations(image)]
    assert sum(counts) == 1600
    assert min(counts) > 150  # 200 expected, standard deviation 13


def test_all_places_occur_equally_often_the_last_row_and_column_included() -> None:
    image = numbered(10, 11)
    batch = PatchStream({"a": image}, patch=(8, 8), batch=2400, seed=0).batch(0)
    corners = (batch.flatten(1).min(dim=1).values * 255).round().int().tolist()  # the least number: top left
    counts = {(corner // 11, corner % 11): corners.count(corner) for corner in set(corners)}
    assert sorted(counts) == [(top, left) for top in range(3) for left in range(4)]
    assert min(counts.values()) > 150  # 200 expected, standard deviation 14


def test_images_are_drawn_in_proportion_to_their_pixels() -> None:
    images = {"small": np.full((1, 40, 40), 0, np.uint8), "large": np.full((1, 80, 60), 255, np.uint8)}
    stream = PatchStream(images, patch=(8, 8), batch=64, seed=0)
    share = np.mean([stream.batch(step).mean().item() for step in range(100)])
    assert share == pytest.approx(0.75, abs=0.02)  # standard deviation 0.005; drawn one by one it would be 0.5


def test_an_image_as_large_as_a_patch_will_do() -> None:
    assert PatchStream({"a": photo(16, 16)}, patch=(16, 16), batch=2, seed=0).batch(0).shape == (2, 1, 16, 16)


@pytest.mark.parametrize(("height", "width"), [(15, 40), (40, 15)])
def test_an_image_smaller_than_a_patch_is_named(height: int, width: int) -> None:
    with pytest.raises(LorunError, match=f"lena is {height} x {width}, smaller than a patch of 16 x 16 pixels"):
        PatchStream({"barbara": photo(40, 40), "lena": photo(height, width)}, patch=(16, 16), batch=2, seed=0)


def test_no_images_is_an_error() -> None:
    with pytest.raises(LorunError, match="no training images"):
        PatchStream({}, patch=(16, 16), batch=2, seed=0)


def cube(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((28, height, width), dtype=np.float32)


def test_floats_are_taken_as_they_are() -> None:
    image = cube(9, 9)
    batch = PatchStream({"a": image}, patch=(9, 9), batch=3, seed=0).batch(0)
    assert batch.dtype == torch.float32
    for patch in batch:
        assert sorted(patch.flatten().tolist()) == sorted(image.flatten().tolist())
    (blocks,) = random_blocks({"a": image}, 9, 1, seed=0)
    assert torch.equal(blocks, torch.from_numpy(image).reshape(28, 81).double())
    pixels = torch.from_numpy(image)
    assert in_unit_range(pixels) is pixels  # no copy
    assert torch.equal(in_unit_range(torch.tensor([0, 51, 255], dtype=torch.uint8)), torch.tensor([0, 0.2, 1]))


@pytest.mark.parametrize("mosaic", [False, True])
def test_no_more_of_an_image_is_read_than_its_patches(tmp_path: Path, mosaic: bool) -> None:
    path = tmp_path / "a.npy"
    np.save(path, cube(200, 200))
    image = np.load(path, mmap_mode="r")
    stream = PatchStream({"a": image}, patch=(16, 16), batch=6, seed=0, share=slice(1, 6, 2), mosaic=mosaic)
    tracemalloc.start()
    stream.batch(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * (3 * 28 * 16 * 16 * 4)  # three patches; the image is 50 times as much


def mosaic_stream(batch: int = 5, share: slice = slice(None), patch: int = 8, seed: int = 0) -> PatchStream:
    images = {"a": photo(20, 31), "b": photo(17, 16, seed=1)}
    return PatchStream(images, patch=(patch, patch), batch=batch, seed=seed, share=share, mosaic=True)


def test_a_wide_patch_is_flipped_but_not_turned() -> None:
    image = np.arange(6 * 9, dtype=np.uint8).reshape(1, 6, 9)
    batch = PatchStream({"a": image}, patch=(6, 9), batch=200, seed=0).batch(0)
    assert batch.shape == (200, 1, 6, 9)
    seen = {tuple((patch * 255).round().to(torch.uint8).flatten().tolist()) for patch in batch}
    flipped = [image, image[..., ::-1], image[:, ::-1], image[:, ::-1, ::-1]]
    assert seen == {tuple(one.flatten().tolist()) for one in flipped}
    with pytest.raises(LorunError, match="a is 6 x 9, smaller than a patch of 6 x 10 pixels"):
        PatchStream({"a": image}, patch=(6, 10), batch=1, seed=0)


@settings(deadline=None, max_examples=30)
@given(step=st.integers(0, 1000), seed=st.integers(0, 5), batch=st.integers(1, 9), parts=st.integers(1, 4))
def test_a_batch_with_mosaics_is_a_function_of_seed_and_step_whatever_the_share(
    step: int, seed: int, batch: int, parts: int
) -> None:
    whole = mosaic_stream(batch, seed=seed).batch(step)
    assert whole.shape == (batch, 1, 8, 8)
    for part in range(min(parts, batch)):
        share = slice(part, None, parts)
        assert torch.equal(mosaic_stream(batch, share, seed=seed).batch(step), whole[share])


@pytest.mark.parametrize(("batch", "mosaics"), [(1, 0), (2, 1), (5, 2), (6, 3)])
def test_the_later_half_of_a_batch_are_mosaics(batch: int, mosaics: int) -> None:
    """Images of one value each: a patch has one, a mosaic one in each quarter."""
    images = {str(value): np.full((1, 12, 12), value, np.uint8) for value in range(200)}
    patches = PatchStream(images, patch=(8, 8), batch=batch, seed=0, mosaic=True).batch(0)[:, 0]
    quarters = patches.unfold(1, 4, 4).unfold(2, 4, 4).flatten(3).flatten(1, 2)  # (B, 4, 16)
    assert (quarters == quarters[..., :1]).all()
    assert [len(values.unique()) > 1 for values in quarters[..., 0]] == [False] * (batch - mosaics) + [True] * mosaics


def test_every_quarter_of_a_mosaic_has_a_place_and_an_orientation_of_its_own() -> None:
    image = numbered(6, 6)
    mosaics = PatchStream({"a": image}, patch=(6, 6), batch=4000, seed=0, mosaic=True).batch(0)[2000:, 0]
    numbers = (mosaics * 255).round().to(torch.uint8).numpy()
    crops = [image[:, top : top + 3, left : left + 3] for top in range(4) for left in range(4)]
    known = [turned.tobytes() for crop in crops for turned in eight_orientations(crop)]
    chosen = []
    for quarter in (np.s_[:, :3, :3], np.s_[:, :3, 3:], np.s_[:, 3:, :3], np.s_[:, 3:, 3:]):
        which = np.array([known.index(piece.tobytes()) for piece in numbers[quarter]])
        assert np.bincount(which // 8, minlength=16).min() > 80  # places: 125 expected, standard deviation 11
        assert np.bincount(which % 8, minlength=8).min() > 180  # orientations: 250 expected, standard deviation 15
        chosen.append(which)
    for one, other in combinations(chosen, 2):
        assert np.mean(one == other) < 0.03  # 1 / 128 expected


def test_mosaics_of_an_odd_side_are_refused() -> None:
    with pytest.raises(LorunError, match="a patch of 7 x 7 pixels must be even with `mosaic: true`"):
        mosaic_stream(patch=7)
    PatchStream({"a": photo(20, 31)}, patch=(7, 7), batch=2, seed=0)


@pytest.mark.parametrize("count", [1, 2048, 5000])
def test_random_blocks_are_as_many_as_asked_for(count: int) -> None:
    chunks = list(random_blocks({"a": photo(20, 31)}, 4, count, seed=0))
    assert sum(len(chunk) for chunk in chunks) == count
    assert all(chunk.shape[1:] == (16,) and chunk.dtype == torch.float64 for chunk in chunks)
    assert max(len(chunk) for chunk in chunks) <= 2048  # an upper bound of the memory they take


def test_random_blocks_reach_both_ends_of_their_range() -> None:
    (blocks,) = random_blocks({"a": np.array([[[0, 255] * 12] * 24], dtype=np.uint8)}, 8, 10, seed=0)
    assert blocks.unique().tolist() == [0.0, 1.0]


def test_random_blocks_are_a_function_of_the_seed() -> None:
    def blocks(seed: int) -> torch.Tensor:
        return torch.cat(list(random_blocks({"a": photo(20, 31), "b": photo(9, 9)}, 8, 50, seed)))

    assert torch.equal(blocks(3), blocks(3))
    assert not torch.equal(blocks(3), blocks(4))


def test_random_blocks_are_upright_pieces_of_the_image_row_by_row() -> None:
    image = numbered(10, 11)
    (blocks,) = random_blocks({"a": image}, 4, 300, seed=0)
    numbers = (blocks * 255).round().long()
    places = {(corner.item() // 11, corner.item() % 11) for corner in numbers[:, 0]}
    assert places == {(top, left) for top in range(7) for left in range(8)}
    offsets = torch.from_numpy(numbered(10, 11)[0, :4, :4].astype(int)).flatten()
    assert torch.equal(numbers - numbers[:, :1], offsets.expand(300, -1))


def test_random_blocks_of_colour_images_are_blocks_of_their_channels() -> None:
    gray = photo(16, 16)
    images = {"a": np.concatenate([gray // 4, 64 + gray // 4, 128 + gray // 4])}
    (blocks,) = random_blocks(images, 8, 20, seed=0)
    ranges = {round(block.min().item() * 255) // 64 for block in blocks}
    assert blocks.shape[1] == 64
    assert ranges == {0, 1, 2}


def test_an_image_smaller_than_a_block_is_named() -> None:
    with pytest.raises(LorunError, match=r"lena is 20 x 7\b"):
        list(random_blocks({"lena": photo(20, 7)}, 8, 10, seed=0))


@settings(deadline=None, max_examples=20)
@given(step=st.integers(0, 1000), seed=st.integers(0, 5), channels=st.sampled_from([1, 3, 28]))
def test_a_gain_is_one_smooth_curve_over_the_bands_of_a_patch(step: int, seed: int, channels: int) -> None:
    """The places of the patches do not change, nor their range, whatever share of a batch a process takes."""
    images = {"a": photo(20, 31, channels)}
    plain, lit = (PatchStream(images, (16, 16), 6, seed, gain=gain).batch(step).double() for gain in (0.0, 0.4))
    ratios = (lit / plain).where(plain > 0, torch.nan).flatten(2)
    curves = ratios.nanmean(dim=2, keepdim=True)
    assert torch.allclose(ratios.nan_to_num(0), curves.expand_as(ratios).where(plain.flatten(2) > 0, 0), rtol=1e-5)
    assert lit.max() <= 1
    assert (curves.log().diff(dim=1).abs() < 8 / channels).all()
    share = PatchStream(images, (16, 16), 6, seed, slice(1, None, 2), gain=0.4).batch(step)
    assert torch.equal(share.double(), lit[1::2])


def test_gains_spread_as_asked() -> None:
    image = {"a": np.full((28, 16, 16), 20, np.uint8)}
    lit = PatchStream(image, (16, 16), 2000, 0, gain=0.4).batch(0)[:, :, 0, 0].double()
    logs = (lit[lit.amax(dim=1) < 1] / (20 / 255)).log().mean(dim=1)
    assert logs.mean().abs() < 0.04
    assert abs(logs.std() - 0.4) < 0.03
