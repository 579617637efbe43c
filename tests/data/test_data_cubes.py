"""Spectral cubes: what is accepted and what exactly is refused, the 28 bands, and what is kept on disk."""

import errno
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.io import savemat

from lorun.data import cubes
from lorun.data.checksums import read_manifest, split_files, write_manifest
from lorun.data.cubes import WAVELENGTHS, read_cube
from lorun.data.images import load_dataset, load_folder
from lorun.data.manual import add
from lorun.data.registry import CubeFormat, read_registry
from lorun.errors import LorunError, UnknownName
from lorun.training.patches import PatchStream

DATA = Path(__file__).parents[2] / "data"
CAVE = np.arange(400, 701, 10)
ENTRY = {"role": "train+test", "tasks": ["cassi"], "what": "w", "licence": "l", "redistribution": "no", "citation": "c"}


def random_cube(bands: int = 28, height: int = 6, width: int = 5, seed: int = 0) -> np.ndarray:
    """(H, W, bands), float64 in [0, 1]."""
    return np.random.default_rng(seed).random((height, width, bands))


def save(path: Path, cube: Any, variable: str = "img") -> Path:
    """A cube (H, W, bands) in a .mat file, or with its bands first in a .npy file."""
    if path.suffix == ".mat":
        savemat(path, {variable: cube})
    else:
        np.save(path, cube.transpose(2, 0, 1))
    return path


def refused(path: Path, stored: CubeFormat | None = None) -> str:
    with pytest.raises(LorunError) as error:
        read_cube(path, stored)
    assert "\n" not in str(error.value)
    return str(error.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize("suffix", [".mat", ".npy"])
def test_28_bands_are_taken_as_they_are(tmp_path: Path, suffix: str) -> None:
    given = random_cube()
    cube = read_cube(save(tmp_path / f"a{suffix}", given))
    assert cube.dtype == np.float32
    assert cube.flags.c_contiguous
    np.testing.assert_array_equal(cube, given.transpose(2, 0, 1).astype(np.float32))


@pytest.mark.parametrize("suffix", [".mat", ".npy"])
def test_31_bands_are_resampled_linearly(tmp_path: Path, suffix: str) -> None:
    given = random_cube(31)
    cube = read_cube(save(tmp_path / f"a{suffix}", given))
    expected = np.apply_along_axis(lambda spectrum: np.interp(WAVELENGTHS, CAVE, spectrum), 2, given)
    np.testing.assert_allclose(cube, expected.transpose(2, 0, 1), rtol=0, atol=1e-7)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), bands=st.sampled_from([28, 31]), kind=st.sampled_from([np.uint8, np.uint16, np.int16]))
def test_integers_are_divided_by_the_largest_of_their_type(
    tmp_path: Path, data: st.DataObject, bands: int, kind: Any
) -> None:
    most = np.iinfo(kind).max
    sides = array_shapes(min_dims=2, max_dims=2, max_side=4)
    shape = (*data.draw(sides), bands)
    whole = data.draw(arrays(kind, shape, elements=st.integers(0, int(most))))
    cube = read_cube(save(tmp_path / "a.npy", whole))
    as_floats = read_cube(save(tmp_path / "b.npy", whole / most))
    assert cube.min() >= 0
    assert cube.max() <= 1
    np.testing.assert_allclose(cube, as_floats, rtol=1e-6)


def test_the_registry_may_say_another_divisor(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mat", np.full((2, 2, 28), 32768, np.uint16))
    assert (read_cube(path, CubeFormat(wavelengths="kaist", divide=65536)) == 0.5).all()
    assert (
        read_cube(save(path, np.full((2, 2, 28), 16384.5)), CubeFormat(wavelengths="kaist", divide=65538)) == 0.25
    ).all()


@pytest.mark.parametrize("bands", [3, 27, 32])
def test_another_number_of_bands_is_refused(tmp_path: Path, bands: int) -> None:
    message = refused(save(tmp_path / "a.mat", random_cube(bands)))
    assert f"a.mat: variable `img` has {bands} bands (height x width x bands: (6, 5, {bands}))" in message
    assert message.endswith("known are 28 (453.3 to 648.1 nm, as KAIST) and 31 (400 to 700 nm in steps of 10, as CAVE)")


def test_other_bands_than_the_registry_says_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mat", random_cube(28))
    assert refused(path, CubeFormat(wavelengths="cave")).endswith(
        "has 28 bands (height x width x bands: (6, 5, 28)); known are 31, as the registry says"
    )


@pytest.mark.parametrize(
    ("cube", "message"),
    [
        (np.where(np.arange(28) == 3, np.nan, random_cube()), "has 30 values that are not finite"),
        (np.where(np.arange(28) == 3, np.inf, random_cube()), "has 30 values that are not finite"),
        (np.full((2, 2, 28), -0.25), "has values from -0.25 to -0.25, expected 0 to 1"),
        (np.full((2, 2, 28), 1.5), "has values from 1.5 to 1.5, expected 0 to 1"),
        (
            np.full((2, 2, 28), -1, np.int16),
            "has values from -1 to -1, expected 0 to 32767 (they are divided by 32767)",
        ),
        (np.zeros((4, 28)), "has shape (4, 28), expected height x width x bands"),
        (np.zeros((1, 2, 2, 28)), "has shape (1, 2, 2, 28), expected height x width x bands"),
        (random_cube() + 1j, "is not an array of real numbers, but holds complex numbers"),
        ("text", "is not an array of real numbers, but holds text"),
        (np.zeros((0, 2, 28)), "is empty"),
    ],
)
def test_a_wrong_cube_is_refused(tmp_path: Path, cube: Any, message: str) -> None:
    assert refused(save(tmp_path / "a.mat", cube)) == f"a.mat: variable `img` {message}"


@pytest.mark.parametrize("kind", [str, bool, complex, object])
def test_other_arrays_of_numpy_are_refused(tmp_path: Path, kind: type) -> None:
    np.save(tmp_path / "a.npy", np.zeros((28, 2, 2)).astype(kind), allow_pickle=True)
    message = " holds Python objects: " if kind is object else ": the array is not an array of real numbers"
    assert refused(tmp_path / "a.npy").startswith(f"a.npy{message}")


def test_the_variable_is_a_known_one_or_the_only_one_with_three_dimensions(tmp_path: Path) -> None:
    cube = random_cube()
    path = tmp_path / "a.mat"
    for name in (*cubes.VARIABLES, "reflectance"):
        savemat(path, {"gain": np.ones((2, 2)), name: cube})
        np.testing.assert_array_equal(read_cube(path), cube.transpose(2, 0, 1).astype(np.float32))
    savemat(path, {"one": cube, "two": cube})
    nor = "holds no variable `img` or `img_expand` or `cube` or `truth` or `Omsi`, nor a single one of three dimensions"
    assert refused(path) == f"a.mat: {nor}, but `one`, `two`"
    assert refused(path, CubeFormat(wavelengths="kaist", variable=["img"])) == (
        "a.mat: holds no variable `img`, but `one`, `two`"
    )
    savemat(path, {"one": cube, "img": cube / 2})
    np.testing.assert_array_equal(read_cube(path), (cube / 2).transpose(2, 0, 1).astype(np.float32))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.mat", b"no matlab", "a.mat cannot be read as a MATLAB file ("),
        ("a.mat", b"", "a.mat is empty"),
        (
            "a.mat",
            b"MATLAB 7.3 MAT-file" + b" " * 105 + b"\x00\x02IM" + b"\x00" * 512,
            "a.mat is a MATLAB file of version 7.3; save it again as version 7",
        ),
        ("a.npy", b"\x93NUMPY\x01\x00", "a.npy cannot be read as a .npy file ("),
        ("a.npy", b"", "a.npy is empty"),
        ("a.tif", b"", "a.tif is not a file of a cube: use .mat or .npy"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert refused(tmp_path / name).startswith(message)


def test_a_folder_of_ones_own_files(tmp_path: Path) -> None:
    save(tmp_path / "b.mat", random_cube(31, seed=1), "whatever")
    save(tmp_path / "a.npy", random_cube(28))
    (tmp_path / "readme.txt").write_text("not a cube")
    images = load_folder(tmp_path, 28)
    assert list(images) == ["a", "b"]
    assert {name: (cube.shape, cube.dtype) for name, cube in images.items()} == dict.fromkeys(
        "ab", ((28, 6, 5), np.dtype(np.float32))
    )
    save(tmp_path / "b.mat", random_cube(27))
    with pytest.raises(LorunError, match=r"b\.mat: variable `img` has 27 bands"):
        load_folder(tmp_path, 28)
    save(tmp_path / "a.mat", random_cube())
    with pytest.raises(LorunError, match=r"a\.npy has the same name as another image"):
        load_folder(tmp_path, 28)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(LorunError, match=r"no images in .*: looked for \.mat, \.npy"):
        load_folder(empty, 28)


# What is kept on disk.


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with the registered dataset `scenes`: 31 bands of 16 bits, two to train and one to test."""
    root = tmp_path / "data"
    (root / "scenes").mkdir(parents=True)
    for number in range(3):
        whole = (random_cube(31, seed=number) * 65535).astype(np.uint16)
        savemat(root / f"scenes/s{number}.mat", {"Omsi": whole})
    entry = {**ENTRY, "built_by": "somewhere", "cubes": {"wavelengths": "cave", "variable": ["Omsi"]}}
    entry["splits"] = {"test": ["s2.mat"], "train": ["*"]}
    (root / "registry.yaml").write_text(yaml.safe_dump({"scenes": entry}))
    write_manifest(root, "scenes")
    return root


FORMAT = CubeFormat(wavelengths="cave", variable=["Omsi"])


def kept(root: Path, file: str) -> Path:
    return root / ".cubes" / f"{cubes._key([read_manifest(root, 'scenes')[file]], FORMAT)}.npy"


def expected(root: Path, file: str) -> np.ndarray:
    return read_cube(root / "scenes" / file, FORMAT)


def test_a_dataset_is_converted_once_and_opened_on_disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = load_dataset(root, "scenes", "train", 28)
    assert list(train) == ["s0", "s1"]
    for name, cube in train.items():
        assert isinstance(cube, np.memmap)
        assert not cube.flags.writeable
        np.testing.assert_array_equal(cube, expected(root, f"{name}.mat"))
    assert sorted(root.glob(".cubes/*.npy")) == sorted([kept(root, "s0.mat"), kept(root, "s1.mat")])
    np.testing.assert_array_equal(np.load(kept(root, "s0.mat")), train["s0"])  # an ordinary .npy file
    monkeypatch.setattr(cubes, "read_cube", lambda *_: pytest.fail("converted again"))
    again = load_dataset(root, "scenes", "train", 28)
    np.testing.assert_array_equal(again["s1"], train["s1"])


def test_progress_is_shown_for_what_is_converted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_dataset(root, "scenes", "train", 28)
    assert re.search(r"scenes: converting \S+ 2/2", capsys.readouterr().err)
    load_dataset(root, "scenes", "train", 28)
    assert capsys.readouterr().err == ""


def saved(array: np.ndarray) -> bytes:
    stream = BytesIO()
    np.save(stream, array)
    return stream.getvalue()


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "no array": lambda whole: b"hello",
    "cut early": lambda whole: whole[: len(whole) // 100],
    "cut late": lambda whole: whole[:-4],
    "another shape": lambda whole: saved(np.zeros((27, 2, 2), np.float32)),
    "another type": lambda whole: whole.replace(b"<f4", b"<i4"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_what_is_not_the_conversion_is_made_anew(root: Path, how: str) -> None:
    load_dataset(root, "scenes", "train", 28)
    path = kept(root, "s0.mat")
    before = path.read_bytes()
    path.write_bytes(DAMAGE[how](before))
    assert path.read_bytes() != before
    cube = load_dataset(root, "scenes", "train", 28)["s0"]
    np.testing.assert_array_equal(cube, expected(root, "s0.mat"))
    assert path.read_bytes() == before


def test_the_conversion_of_another_version_or_entry_is_made_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_dataset(root, "scenes", "train", 28)
    registry = yaml.safe_load((root / "registry.yaml").read_text())
    registry["scenes"]["cubes"]["divide"] = 131070
    (root / "registry.yaml").write_text(yaml.safe_dump(registry))
    halved = load_dataset(root, "scenes", "train", 28)["s0"]
    np.testing.assert_allclose(halved, expected(root, "s0.mat") / 2, rtol=1e-6)
    made = []
    monkeypatch.setattr(cubes, "_VERSION", cubes._VERSION + 1)
    monkeypatch.setattr(cubes, "read_cube", lambda path, *_: made.append(path.name) or random_cube().transpose(2, 0, 1))
    load_dataset(root, "scenes", "train", 28)
    assert made == ["s0.mat", "s1.mat"]


def test_a_damaged_source_is_not_converted(root: Path) -> None:
    (root / "scenes/s0.mat").write_bytes((root / "scenes/s1.mat").read_bytes())
    with pytest.raises(LorunError, match=r"s0\.mat does not have the checksum of its manifest"):
        load_dataset(root, "scenes", "train", 28)
    (root / "scenes/s0.mat").unlink()
    with pytest.raises(LorunError, match=r"s0\.mat is missing: run `lorun data fetch scenes`"):
        load_dataset(root, "scenes", "train", 28)


def test_a_full_disk_is_told_and_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(LorunError, match=r"cannot write \S*\.cubes/\S*: No space left on device"):
        load_dataset(root, "scenes", "train", 28)
    assert [path.name for path in (root / ".cubes").iterdir()] == [".lock"]
    (root / ".cubes/.lock").unlink()
    (root / ".cubes").rmdir()
    (root / ".cubes").write_text("a file")
    with pytest.raises(LorunError, match=r"cannot write to \S*\.cubes: File exists"):
        load_dataset(root, "scenes", "train", 28)


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_conversion_killed_in_the_middle_leaves_nothing_that_is_believed(root: Path) -> None:
    stuck = python(
        """
        import sys, time
        from pathlib import Path
        import numpy as np
        from lorun.data.images import load_dataset

        def save(stream, cube):
            stream.write(b"half of it")
            stream.flush()
            print("in the middle", flush=True)
            time.sleep(60)

        np.save = save
        load_dataset(Path(sys.argv[1]), "scenes", "train", 28)
        """,
        root,
    )
    assert stuck.stdout is not None
    assert stuck.stdout.readline() == "in the middle\n"
    stuck.send_signal(signal.SIGKILL)
    stuck.communicate()
    (part,) = (root / ".cubes").glob(".*.part")
    assert part.read_bytes() == b"half of it"
    np.testing.assert_array_equal(load_dataset(root, "scenes", "train", 28)["s0"], expected(root, "s0.mat"))
    assert not part.exists()


def test_a_second_process_waits_for_the_first_and_takes_what_it_made(root: Path) -> None:
    code = """
        import sys, time
        from pathlib import Path
        from lorun.data import cubes
        from lorun.data.images import load_dataset

        read = cubes.read_cube

        def slowly(path, *others):
            print(path.name, flush=True)
            time.sleep(0.5)
            return read(path, *others)

        cubes.read_cube = slowly
        load_dataset(Path(sys.argv[1]), "scenes", "train", 28)
    """
    first = python(code, root)
    assert first.stdout is not None
    assert first.stdout.readline() == "s0.mat\n"
    second = python(code, root)
    out, err = second.communicate()
    assert (first.communicate()[0], out) == ("s1.mat\n", "")
    assert "another process is converting; waiting for it" in err
    assert (first.returncode, second.returncode) == (0, 0)


MANY = """
    import resource, sys
    from pathlib import Path
    import numpy as np
    from lorun.data.images import load_dataset
    from lorun.training.patches import PatchStream

    root, limit, hold = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "hold"
    PatchStream(load_dataset(root, "scenes", "test", 28), (4, 4), 2, 0).batch(0)  # imports what it needs
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    resource.setrlimit(resource.RLIMIT_DATA, (int(status["VmData"].split()[0]) * 1024 + limit,) * 2)
    images = load_dataset(root, "scenes", "train", 28)
    if hold:
        images = {name: np.array(cube) for name, cube in images.items()}
    stream = PatchStream(images, (32, 32), 2, 0, mosaic=True)
    print(len(images), sum(stream.batch(step).sum().item() for step in range(50)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of a process's own memory is that of Linux")
def test_memory_does_not_grow_with_the_number_of_scenes(root: Path) -> None:
    """20 cached scenes of 1.8 MB, 37 MB in all, are converted and drawn from within 16 MB of memory."""
    for number in range(3, 23):
        shared = (random_cube(28, 128, 128, seed=number) * 65535).astype(np.uint16)
        savemat(root / f"scenes/s{number}.mat", {"img": shared})
    registry = yaml.safe_load((root / "registry.yaml").read_text())
    registry["scenes"]["cubes"] = {"wavelengths": "kaist"}
    registry["scenes"]["splits"] = {"test": ["s3.mat"], "train": ["s*"]}
    for number in range(3):
        (root / f"scenes/s{number}.mat").unlink()
    (root / "registry.yaml").write_text(yaml.safe_dump(registry))
    write_manifest(root, "scenes")
    limit = 16 * 2**20
    process = python(MANY, root, limit, "on disk")
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert out.split()[0] == "19"
    assert sum(path.stat().st_size for path in root.glob(".cubes/*.npy")) > 2 * limit
    process = python(MANY, root, limit, "hold")  # that the limit would be noticed
    assert "MemoryError" in process.communicate()[1]
    assert process.returncode != 0


# The datasets.


def test_kinds_are_not_mixed(root: Path) -> None:
    with pytest.raises(
        LorunError, match="'scenes' has no gray images in its split train: choose another split or number"
    ):
        load_dataset(root, "scenes", "train", 1)
    with pytest.raises(UnknownName, match="unknown split of scenes 'tests'. Did you mean 'test'"):
        load_dataset(root, "scenes", "tests", 28)
    with pytest.raises(LorunError, match="'set11' has no cubes in its split test"):
        split_files(DATA, "set11", "test", "cube")


def test_an_unregistered_dataset_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine/train/cube").mkdir(parents=True)
    save(tmp_path / "mine/train/cube/a.mat", random_cube(31))
    save(tmp_path / "mine/train/cube/b.npy", random_cube(28))
    write_manifest(tmp_path, "mine")
    assert {name: cube.shape for name, cube in load_dataset(tmp_path, "mine", "train", 28).items()} == dict.fromkeys(
        "ab", (28, 6, 5)
    )


def bands_project(root: Path, scenes: dict[str, np.ndarray], **cubes: Any) -> Path:
    """A data root with the dataset `bands`: the scenes (bands, H, W) as a folder each, with a PNG for each band."""
    from PIL import Image

    for scene, bands in scenes.items():
        (root / "bands" / scene).mkdir(parents=True)
        for number, band in enumerate(bands, 1):
            Image.fromarray(band).save(root / "bands" / scene / f"{scene}_ms_{number:02d}.png")
    splits = {"train": ["one/*"], "test": ["two/*", "three/*"]}
    entry = {**ENTRY, "built_by": "tests", "cubes": {"wavelengths": "cave", "bands": True, **cubes}, "splits": splits}
    (root / "registry.yaml").write_text(yaml.safe_dump({"bands": entry}))
    write_manifest(root, "bands")
    return root


def test_a_cube_may_be_a_folder_of_images(tmp_path: Path) -> None:
    bands = np.random.default_rng(0).integers(0, 2**16, (31, 6, 5), dtype=np.uint16)
    root = bands_project(tmp_path, {"one": bands})
    expected = read_cube(save(tmp_path / "one.mat", bands.transpose(1, 2, 0)))
    found = load_dataset(root, "bands", "train", 28)
    assert list(found) == ["one"]
    np.testing.assert_array_equal(found["one"], expected)


def test_test_scenes_may_be_cut_into_squares(tmp_path: Path) -> None:
    scenes = {
        name: np.random.default_rng(seed).integers(0, 2**8, (31, 9, 13), dtype=np.uint8)
        for seed, name in enumerate(("one", "three", "two"))
    }
    root = bands_project(tmp_path, scenes, tiles=4)
    assert {name: cube.shape for name, cube in load_dataset(root, "bands", "train", 28).items()} == {"one": (28, 9, 13)}
    tiles = load_dataset(root, "bands", "test", 28)
    places = [(row, column) for row in range(2) for column in range(3)]
    assert list(tiles) == [f"{name}_{row}_{column}" for name in ("three", "two") for row, column in places]
    whole = read_cube(save(tmp_path / "two.mat", scenes["two"].transpose(1, 2, 0)))
    np.testing.assert_array_equal(tiles["two_1_2"], whole[:, 4:8, 8:12])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda bands: bands[:30], "has 30 bands (an image each, 6 x 5); known are 31"),
        (lambda bands: [*bands[:30], bands[30][:3]], "has bands of different sizes"),
        (lambda bands: [*bands[:30], np.stack([bands[30].astype(np.uint8)] * 3, 2)], "no gray image of 8 or 16 bits"),
    ],
)
def test_wrong_images_of_bands_are_refused(tmp_path: Path, change: Callable[..., Any], message: str) -> None:
    bands = np.random.default_rng(0).integers(0, 2**16, (31, 6, 5), dtype=np.uint16)
    root = bands_project(tmp_path, {"one": change(bands)})
    with pytest.raises(LorunError, match=re.escape(message)):
        load_dataset(root, "bands", "train", 28)


def test_the_whole_scenes_of_cave() -> None:
    if not (DATA / "cave9").is_dir():
        pytest.skip("data/cave9 is not there: `lorun data fetch cave9`")
    scenes = {split: load_dataset(DATA, "cave9", split, 28) for split in ("train", "validation", "test")}
    assert {split: len(found) for split, found in scenes.items()} == {"train": 5, "validation": 1, "test": 12}
    assert {cube.shape for cube in scenes["test"].values()} == {(28, 256, 256)}
    assert scenes["validation"]["pompoms"].shape == (28, 512, 512)
    assert all(0.3 < cube.max() <= 1 for cube in scenes["train"].values())


def test_the_scenes_of_cave() -> None:
    if not (DATA / "cave_mini").is_dir():
        pytest.skip("data/cave_mini is not there: `lorun data fetch cave_mini`")
    scenes = {split: load_dataset(DATA, "cave_mini", split, 28) for split in ("train", "validation", "test")}
    assert {split: {name: cube.shape for name, cube in cubes.items()} for split, cubes in scenes.items()} == {
        "train": {"cloth_256": (28, 256, 256), "feathers_150": (28, 150, 150)},
        "validation": {"chart_150": (28, 150, 150)},
        "test": {"balloons_256": (28, 256, 256)},
    }
    for found in scenes.values():
        for cube in found.values():
            assert 0 <= cube.min() < 0.01
            assert 0.5 < cube.max() <= 1
    batch = PatchStream(scenes["train"], (96, 96), 4, 0, mosaic=True).batch(0)
    assert batch.shape == (4, 28, 96, 96)
    assert batch.dtype == torch.float32


def test_what_the_registry_says_of_cubes_is_consistent() -> None:
    registry = read_registry(DATA)
    stored = {name: entry.cubes for name, entry in registry.items() if entry.cubes is not None}
    assert {"cave_mini", "kaist10", "cave_1024_28"} <= stored.keys()
    for name, entry in stored.items():
        manual = registry[name].manual
        if manual is not None:
            assert entry is not None
            assert manual.expected.size is not None


def test_five_of_the_205_scenes_validate(tmp_path: Path) -> None:
    shutil.copy(DATA / "registry.yaml", tmp_path)
    for names in ([f"scene{n}" for n in range(1, 206)], [f"scene{n:03}" for n in range(1, 206)]):
        lines = sorted(f"{'0' * 32}  cave_1024_28/{name}.mat\n" for name in names)
        (tmp_path / "cave_1024_28.md5").write_text("".join(lines))
        validation = split_files(tmp_path, "cave_1024_28", "validation", "cube")
        assert sorted(int(name[5:-4]) for name in validation) == [41, 82, 123, 164, 205]
        assert len(split_files(tmp_path, "cave_1024_28", "train", "cube")) == 200


def test_ten_scenes_that_their_user_adds_can_be_loaded(tmp_path: Path) -> None:
    """With stand-ins for the scenes, and the committed entry of the registry."""
    root, obtained = tmp_path / "data", tmp_path / "Truth"
    root.mkdir()
    obtained.mkdir()
    shutil.copy(DATA / "registry.yaml", root)
    for number in range(1, 11):
        cube = np.zeros((256, 256, 28), np.float32)
        cube[number, 2 * number] = np.linspace(0, 1, 28)
        savemat(obtained / f"scene{number:02}.mat", {"img": cube}, do_compression=True)
    with pytest.raises(LorunError, match="'kaist10' must be obtained by you: .*; then `lorun data add kaist10 --from"):
        load_dataset(root, "kaist10", "test", 28)
    add(root, "kaist10", obtained)
    scenes = load_dataset(root, "kaist10", "test", 28)
    assert list(scenes) == [f"scene{number:02}" for number in range(1, 11)]
    for number, cube in enumerate(scenes.values(), start=1):
        assert cube.shape == (28, 256, 256)
        np.testing.assert_array_equal(cube[:, number, 2 * number], np.linspace(0, 1, 28, dtype=np.float32))
        assert np.count_nonzero(cube) == 27
