"""Tiles cover an image, overlap, and blend into it again."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorun.restore.tiles import Blend, Tile, tiles


@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(0, 40),
    st.integers(1, 8),
)
def test_tiles_blend_into_the_image(
    rows: int, columns: int, height: int, width: int, overlap: int, multiple: int
) -> None:
    size = (rows * multiple, columns * multiple)
    image = torch.rand(2, 3, *size)
    blend = Blend(size)
    for tile in tiles(size, (height, width), overlap, multiple):
        assert all(number % multiple == 0 for number in tile)
        assert tile.height <= max(height, multiple)
        assert tile.width <= max(width, multiple)
        blend.add(tile, tile.of(image))
    torch.testing.assert_close(blend.image(), image)


def test_neighbours_overlap() -> None:
    assert tiles((100, 40), (60, 60), 20) == [Tile(0, 0, 60, 40), Tile(40, 0, 60, 40)]
    assert [tile.left for tile in tiles((8, 96), (40, 40), 10, 8)] == [0, 24, 48, 56]
    assert [tile.top for tile in tiles((10, 1), (4, 4), 100)] == [0, 2, 4, 6]


def test_the_middle_of_a_tile_counts_more_than_its_edge() -> None:
    blend = Blend((1, 6))
    for left, value in ((0, 0.0), (2, 1.0)):
        blend.add(Tile(0, left, 1, 4), torch.full((1, 1, 1, 4), value))
    assert blend.image().flatten().tolist() == pytest.approx([0, 0, 0.25, 0.75, 1, 1])
