"""`lorun data add`: what is accepted, and which message every wrong file gets."""

import errno
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.io import savemat

from lorun.data.checksums import dataset_identity, read_manifest, verify_dataset
from lorun.data.manual import add
from lorun.data.registry import read_registry
from lorun.errors import LorunError, UnknownName

SHAPE = (6, 5, 28)
ENTRY = {"role": "test", "tasks": ["cs"], "what": "w", "licence": "l", "redistribution": "no", "citation": "c"}
PHOTOS: dict[str, Any] = {"count": 3, "pattern": "*.bmp", "channels": 3}
CUBES: dict[str, Any] = {"count": 2, "pattern": "scene*.mat", "size": list(SHAPE[:2])}
CUBES["names"] = ["scene01.mat", "scene02.mat"]
FORMAT = {"wavelengths": "kaist", "variable": ["img", "img_expand"]}
OTHERS = {"Thumbs.db", ".DS_Store", "._im_1.bmp", "README"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    registry = {
        "photos": {**ENTRY, "manual": {"how": "from their page", "expected": PHOTOS}, "splits": {"test": ["*"]}},
        "cubes": {**ENTRY, "manual": {"how": "from their page", "expected": CUBES}, "cubes": FORMAT},
        "fetched": {**ENTRY, "built_by": "lorun.data.photos"},
    }
    (root / "registry.yaml").write_text(yaml.safe_dump(registry))
    return root


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "obtained"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in ("im_1.bmp", "im_2.bmp", "im_3.BMP"):
        Image.fromarray(random.integers(0, 255, (9, 12, 3), dtype=np.uint8)).save(folder / name, format="BMP")
    for name in OTHERS:
        (folder / name).write_bytes(b"not of the dataset")
    return folder


@pytest.fixture
def cubes(tmp_path: Path) -> Path:
    folder = tmp_path / "cubes"
    folder.mkdir()
    for place, name in enumerate(("scene01.mat", "scene02.mat")):
        write_cube(folder / name, np.random.default_rng(place).random(SHAPE))
    return folder


def write_cube(path: Path, cube: np.ndarray, variable: str = "img", **options: bool) -> None:
    savemat(path, {variable: cube}, **options)


def expect(root: Path, name: str, **changes: Any) -> None:
    """Change what the registry expects of a dataset."""
    path = root / "registry.yaml"
    registry = yaml.safe_load(path.read_text())
    registry[name]["manual"]["expected"].update(changes)
    path.write_text(yaml.safe_dump(registry))


@pytest.mark.parametrize("kind", ["photos", "cubes"])
def test_right_files_are_copied_and_recorded(root: Path, request: pytest.FixtureRequest, kind: str) -> None:
    source = request.getfixturevalue(kind)
    with pytest.raises(LorunError, match="must be obtained by you: from their page; then `lorun data add"):
        read_manifest(root, kind)
    identity = add(root, kind, source)
    assert identity == verify_dataset(root, kind) == dataset_identity(root, kind)
    expected = {path.name for path in source.iterdir()} - OTHERS
    assert read_manifest(root, kind).keys() == expected
    assert add(root, kind, source) == identity  # once more is the same


def test_a_copy_in_the_place_of_a_damaged_one(root: Path, photos: Path) -> None:
    add(root, "photos", photos)
    (root / "photos/im_1.bmp").write_bytes(b"damaged")
    with pytest.raises(
        LorunError, match="im_1.bmp does not have .*: restore it by `lorun data add photos --from FOLDER`"
    ):
        verify_dataset(root, "photos")
    (root / "photos/more.bmp").write_bytes(b"not of it")
    add(root, "photos", photos)
    verify_dataset(root, "photos")


def refused(root: Path, name: str, source: Path, **options: bool) -> str:
    manifest = root / f"{name}.md5"
    before = (root / name).exists(), manifest.read_bytes() if manifest.exists() else None
    with pytest.raises(LorunError) as error:
        add(root, name, source, **options)
    assert before == ((root / name).exists(), manifest.read_bytes() if manifest.exists() else None)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_wrong_count_is_refused(root: Path, photos: Path) -> None:
    (photos / "im_1.bmp").unlink()
    assert refused(root, "photos", photos) == f"photos: expected 3 files *.bmp in {photos}, found 2"


def test_a_missing_name_is_refused(root: Path, cubes: Path) -> None:
    (cubes / "scene02.mat").rename(cubes / "scene2.mat")
    assert refused(root, "cubes", cubes) == f"cubes: {cubes} lacks scene02.mat"


@pytest.mark.parametrize("mode", ["L", "1"])
def test_a_gray_image_of_a_colour_dataset_is_refused(root: Path, photos: Path, mode: str) -> None:
    Image.new(mode, (12, 9), 1).save(photos / "im_2.bmp")
    assert refused(root, "photos", photos) == "photos: im_2.bmp: is gray, expected RGB"


def test_the_first_problem_is_named_and_the_others_counted(root: Path, photos: Path) -> None:
    (photos / "im_1.bmp").write_bytes(b"no image")
    Image.new("L", (12, 9)).save(photos / "im_2.bmp")
    message = refused(root, "photos", photos)
    assert message.startswith("photos: im_1.bmp: is not an image of a known format")
    assert message.endswith("(and 1 more)")


@pytest.mark.parametrize(
    ("variable", "cube", "message"),
    [
        ("img", np.zeros((6, 4, 28)), "has the size [6, 4], expected [6, 5]"),
        (
            "img",
            np.zeros((6, 5, 4)),
            "variable `img` has 4 bands (height x width x bands: (6, 5, 4)); known are 28, as",
        ),
        ("img", np.full(SHAPE, 1.5), "variable `img` has values from 1.5 to 1.5, expected 0 to 1"),
        ("img", np.full(SHAPE, -0.1), "variable `img` has values from -0.1 to -0.1, expected 0 to 1"),
        ("img", np.full(SHAPE, np.nan), "variable `img` has 840 values that are not finite"),
        ("img", np.full(SHAPE, 1j), "variable `img` is not an array of real numbers"),
        ("truth", np.zeros(SHAPE), "holds no variable `img` or `img_expand`, but `truth`"),
    ],
)
def test_a_wrong_cube_is_refused(root: Path, cubes: Path, variable: str, cube: np.ndarray, message: str) -> None:
    write_cube(cubes / "scene02.mat", cube, variable)
    assert refused(root, "cubes", cubes).startswith(f"cubes: scene02.mat: {message}")


def test_any_accepted_variable_and_any_size_where_none_is_given(root: Path, cubes: Path) -> None:
    expect(root, "cubes", size=None)
    write_cube(cubes / "scene01.mat", np.zeros((2, 3, 28)), "img_expand")
    add(root, "cubes", cubes)


def test_a_damaged_compressed_file_is_refused(root: Path, cubes: Path) -> None:
    path = cubes / "scene01.mat"
    write_cube(path, np.random.default_rng(0).random(SHAPE), do_compression=True)
    whole = path.read_bytes()
    for place in (len(whole) // 2, 150, len(whole) - 2):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        assert refused(root, "cubes", cubes).startswith("cubes: scene01.mat: cannot be read as a MATLAB file (")
    path.write_bytes(whole[: len(whole) // 2])
    assert refused(root, "cubes", cubes).startswith("cubes: scene01.mat: cannot be read as a MATLAB file (")


def test_one_scene_at_a_time_is_in_memory(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    names = [f"scene{number}.mat" for number in range(8)]
    cube = np.random.default_rng(0).random((64, 64, 28))  # 0.9 MB
    for name in names:
        write_cube(folder / name, cube)
    expect(root, "cubes", count=8, names=names, size=[64, 64])
    add(root, "cubes", folder)  # imports what it needs
    tracemalloc.start()
    add(root, "cubes", folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * cube.nbytes


def test_an_image_whose_header_is_all_that_is_right(root: Path, photos: Path) -> None:
    path = photos / "im_2.bmp"
    path.write_bytes(path.read_bytes()[:100])
    assert refused(root, "photos", photos).startswith("photos: im_2.bmp: cannot be decoded (")


def test_16_bit_images_are_refused(root: Path, photos: Path) -> None:
    expect(root, "photos", pattern="*.png", count=1, channels=None)
    Image.fromarray(np.zeros((9, 12), np.uint16)).save(photos / "deep.png")
    assert refused(root, "photos", photos).startswith("photos: deep.png: is not 8-bit gray or RGB")


def test_gray_and_colour(root: Path, photos: Path) -> None:
    """A photograph without colour that is stored as RGB is an RGB file; one with colour is never a gray one."""
    Image.new("RGB", (12, 9), (7, 7, 7)).save(photos / "im_1.bmp")
    add(root, "photos", photos)
    expect(root, "photos", channels=1)
    assert refused(root, "photos", photos) == "photos: im_2.bmp: is in colour, expected gray (and 1 more)"
    for name in ("im_2.bmp", "im_3.BMP"):
        Image.new("L", (12, 9), 7).save(photos / name, format="BMP")
    (root / "photos.md5").unlink()
    add(root, "photos", photos)


def test_the_source_stays_as_it_is_and_its_links_are_followed(root: Path, photos: Path) -> None:
    target = photos / "im_1.bmp"
    elsewhere = target.rename(photos.parent / "elsewhere.bmp")
    target.symlink_to(elsewhere)
    before = {path.name: (path.is_symlink(), path.read_bytes(), path.stat().st_mtime_ns) for path in photos.iterdir()}
    add(root, "photos", photos)
    assert before == {
        path.name: (path.is_symlink(), path.read_bytes(), path.stat().st_mtime_ns) for path in photos.iterdir()
    }
    assert not (root / "photos/im_1.bmp").is_symlink()
    assert (root / "photos/im_1.bmp").read_bytes() == elsewhere.read_bytes()


def test_a_full_disk_leaves_what_was_there(root: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    identity = add(root, "photos", photos)
    monkeypatch.setattr(Path, "write_bytes", full)
    assert re.search(r"cannot write \S*photos: No space left on device", refused(root, "photos", photos))
    assert verify_dataset(root, "photos") == identity


def test_progress_is_shown(root: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(root, "photos", photos)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.findall(r"photos: (\w+) \S+ 3/3", shown.err) == ["checking", "copying"]


@pytest.mark.parametrize(
    "content", [b"", b"no matlab", b"MATLAB 7.3 MAT-file" + b" " * 105 + b"\x00\x02IM" + b"\x00" * 512]
)
def test_what_is_not_a_readable_mat_file_is_refused(root: Path, cubes: Path, content: bytes) -> None:
    (cubes / "scene01.mat").write_bytes(content)
    message = refused(root, "cubes", cubes)
    assert re.match(
        r"cubes: scene01.mat: (cannot be read as a MATLAB file|is a MATLAB file of version 7.3|is empty)", message
    )


def test_another_copy_than_the_recorded_one(root: Path, cubes: Path) -> None:
    add(root, "cubes", cubes)
    write_cube(cubes / "scene02.mat", np.zeros(SHAPE))
    message = refused(root, "cubes", cubes)
    assert message.startswith("cubes: scene02.mat differs from ")
    assert message.endswith("delete that file to record yours instead")
    (root / "cubes.md5").unlink()
    identity = add(root, "cubes", cubes)
    assert identity == verify_dataset(root, "cubes")


def test_what_cannot_be_added(root: Path, photos: Path) -> None:
    assert refused(root, "fetched", photos) == "dataset 'fetched' need not be added: `lorun data fetch fetched`"
    with pytest.raises(
        UnknownName, match="unknown dataset to add 'cube'. Did you mean 'cubes'. Choices: cubes, photos"
    ):
        add(root, "cube", photos)
    assert refused(root, "photos", photos / "nowhere").startswith("no folder ")
    add(root, "photos", photos)
    (root / "photos/deeper").mkdir()
    (photos.parent / "link").symlink_to(root / "photos")
    for source in (root / "photos", root / "photos/deeper", photos.parent / "link"):
        assert refused(root, "photos", source).endswith("name the folder that you obtained")


def test_the_committed_entries_can_be_read() -> None:
    registry = read_registry(Path(__file__).parents[2] / "data")
    manual = {name: entry.manual.expected for name, entry in registry.items() if entry.manual is not None}
    assert manual.keys() == {"general100", "kaist10", "cave_1024_28", "div2k"}
    assert {name: expected.count for name, expected in manual.items()} == {
        "general100": 100,
        "kaist10": 10,
        "cave_1024_28": 205,
        "div2k": 800,
    }
