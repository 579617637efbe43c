"""The simulated cubes: the same bytes everywhere, spectra as the primaries give them, splits as the photographs."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from typer.testing import CliRunner

from lorun.cli.data import data_app
from lorun.data import spectral_photos
from lorun.data.checksums import read_manifest, verify_dataset
from lorun.data.cubes import WAVELENGTHS
from lorun.data.fetch import make
from lorun.data.images import load_dataset
from lorun.data.registry import entry_of, read_registry
from lorun.data.spectral_photos import SPECTRAL_SOURCES, simulate, spectral_primaries
from lorun.errors import LorunError

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the dataset, made from the committed registry and manifest."""
    root = tmp_path_factory.mktemp("simulated") / "data"
    root.mkdir()
    for name in ("photos_spectral.md5", "registry.yaml"):
        shutil.copy(DATA / name, root)
    make(root, "photos_spectral")
    return root


def test_it_has_the_bytes_of_the_committed_manifest(simulated: Path) -> None:
    verify_dataset(simulated, "photos_spectral")


def test_numpy_reads_what_is_stored_and_would_store_the_same_values(simulated: Path) -> None:
    for path in (simulated / "photos_spectral").rglob("*.npy"):
        cube = np.load(path, allow_pickle=False)
        assert cube.dtype == np.uint16
        assert cube.shape == (28, 256, 256)
        assert path.stat().st_size == 128 + cube.nbytes


@pytest.mark.parametrize("exact", [spectral_photos.exact_light, spectral_photos.exact_primaries])
def test_no_float_is_near_where_rounding_could_go_either_way(exact: Callable[[], np.ndarray]) -> None:
    """A hundred thousand times the error that another pow() or interpolation could make."""
    values = exact()
    assert np.abs(values - np.floor(values) - 0.5).min() > 1e5 * np.spacing(values.max())


def test_the_primaries_are_those_of_colour_science_and_add_up_to_white() -> None:
    from colour.recovery import RGB_to_sd_Mallett2019

    primaries = spectral_primaries() / 2**24
    assert primaries.min() > 0
    np.testing.assert_allclose(primaries.sum(axis=1), 1, atol=1e-5)
    for place, rgb in enumerate(np.eye(3)):
        spectrum = RGB_to_sd_Mallett2019(rgb)
        np.testing.assert_allclose(
            primaries[:, place], np.interp(WAVELENGTHS, spectrum.wavelengths, spectrum.values), atol=1e-7
        )


def by_hand(rgb: np.ndarray) -> np.ndarray:
    """In floats, without the sizes."""
    value = rgb / 255
    light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.tensordot(spectral_primaries() / 2**24, light, 1)


@settings(deadline=None, max_examples=30)
@given(arrays(np.uint8, st.tuples(st.just(3), st.integers(1, 6), st.integers(1, 6))))
def test_every_pixel_is_the_sum_of_the_primaries_that_its_colour_says(rgb: np.ndarray) -> None:
    cube = simulate(rgb, spectral_primaries())
    assert cube.shape == (28, *rgb.shape[1:])
    np.testing.assert_allclose(cube / 65535, by_hand(rgb), rtol=0, atol=2.5 / 65535)  # the light is rounded as well


@pytest.mark.parametrize(
    ("height", "width", "halved", "rows", "columns"),
    [
        (256, 300, False, (0, 256), (22, 278)),
        (511, 600, False, (127, 383), (172, 428)),
        (513, 520, True, (0, 256), (2, 258)),
        (100, 280, False, (0, 100), (12, 268)),
    ],
)
def test_large_photographs_are_halved_and_the_centre_is_cut(
    height: int, width: int, halved: bool, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)
    expected = by_hand(rgb)
    if halved:
        even = expected[:, : height // 2 * 2, : width // 2 * 2]
        expected = (even[:, ::2, ::2] + even[:, 1::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, 1::2]) / 4
    cube = simulate(rgb, spectral_primaries())
    np.testing.assert_allclose(cube / 65535, expected[:, slice(*rows), slice(*columns)], rtol=0, atol=2.5 / 65535)


def test_black_and_white(simulated: Path) -> None:
    rgb = np.array([0, 255], np.uint8) * np.ones((3, 1, 1), np.uint8)
    assert simulate(rgb, spectral_primaries())[:, 0].tolist() == [[0, 65535]] * 28


def test_splits_are_those_of_the_photographs(simulated: Path) -> None:
    splits = {
        split: set(load_dataset(simulated, "photos_spectral", split, 28)) for split in ("train", "validation", "test")
    }
    assert splits["test"] == {"astronaut"}
    assert splits["validation"] == {"chelsea"}
    assert len(splits["train"]) == 8
    assert {name: split for split, names in splits.items() for name in names} == {
        source.name: source.split for source in SPECTRAL_SOURCES
    }
    photographs = read_manifest(DATA, "photos")
    assert {f"{split}/rgb/{name}.png" for split, names in splits.items() for name in names} == {
        file for file in photographs if "/rgb/" in file
    }


def test_a_cube_is_read_as_it_was_stored_and_spans_three_dimensions(simulated: Path) -> None:
    cube = load_dataset(simulated, "photos_spectral", "test", 28)["astronaut"]
    stored = np.load(simulated / "photos_spectral/test/cube/astronaut.npy")
    np.testing.assert_array_equal(cube, (stored / 65535).astype(np.float32))
    energy = np.linalg.svd(cube.reshape(28, -1).astype(float), compute_uv=False)
    assert energy[3] < 1e-4 * energy[2]


def test_it_is_said_to_be_simulated(simulated: Path) -> None:
    assert entry_of(simulated, "photos_spectral").simulated
    assert not entry_of(simulated, "cave_mini").simulated
    assert not entry_of(simulated, "of_my_own").simulated
    listing = CliRunner().invoke(data_app, ["list", "--data", str(simulated)]).stdout
    (line,) = [line for line in listing.splitlines() if line.startswith("photos_spectral ")]
    assert "present" in line
    assert "train+test, simulated" in line
    assert "simulated" in read_registry(DATA)["photos_spectral"].what


def test_a_missing_photograph_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    source = SPECTRAL_SOURCES[0]._replace(file="data/none.png")
    with pytest.raises(LorunError, match=r"skimage has no file data/none\.png"):
        spectral_photos.build(tmp_path / "old", [source])
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_reading_cubes_does_not_load_what_simulates_them(simulated: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lorun.data.images import load_dataset; "
        "from lorun.data import spectral_photos; "
        f"load_dataset(Path({str(simulated)!r}), 'photos_spectral', 'test', 28); "
        "sys.exit(bool({'colour', 'torch', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
