import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorun.data import photos
from lorun.data.checksums import read_manifest, verify_dataset
from lorun.data.fetch import make
from lorun.data.images import load_dataset
from lorun.data.photos import SOURCES, Source
from lorun.errors import LorunError

SPLITS = ("test", "validation", "train")


def test_a_build_has_the_bytes_of_the_committed_manifest(built: Path) -> None:
    verify_dataset(built, "photos")


def test_a_build_replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/old.png").write_bytes(b"old")
    photos.build(tmp_path / "photos", SOURCES[1:2])
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["camera.png"]


def test_the_table_of_sources_is_what_lies_in_the_folder(built: Path) -> None:
    table = {f"{source.split}/{kind}/{source.name}.png" for source in SOURCES for kind in source.kinds}
    assert table == read_manifest(built, "photos").keys()


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_an_rgb_version_for_colour_sources_only(source: Source) -> None:
    with Image.open(photos.locate(source)) as image:
        assert source.kinds == {"L": ("gray",), "RGB": ("gray", "rgb")}[image.mode]
        if image.mode == "RGB":
            red, green, _ = image.split()
            assert red.tobytes() != green.tobytes()


def test_no_image_is_in_two_splits_by_name(built: Path) -> None:
    names = [{source.name for source in SOURCES if source.split == split} for split in SPLITS]
    assert all(names)
    assert sum(map(len, names)) == len(set.union(*names)) == len(SOURCES)


def test_no_image_is_in_two_splits_by_content(built: Path) -> None:
    thumbnails = {}
    for split in SPLITS:
        for name, pixels in load_dataset(built, "photos", split, 1).items():
            small = np.asarray(Image.fromarray(pixels[0]).resize((16, 16)), dtype=float).ravel()
            thumbnails[split, name] = (small - small.mean()) / (small.std() * small.size**0.5)
    for (one, first), (other, second) in combinations(thumbnails.items(), 2):
        assert abs(first @ second) < 0.9, f"{one} and {other} look alike"


def test_a_missing_package_and_a_missing_file_are_named(tmp_path: Path) -> None:
    out = tmp_path / "photos"
    with pytest.raises(LorunError, match=r"no_such_package .*x\.png"):
        photos.build(out, [Source("test", "x", "no_such_package", "x.png", ("gray",))])
    with pytest.raises(LorunError, match=r"skimage has no file data/x\.png"):
        photos.build(out, [Source("test", "x", "skimage", "data/x.png", ("gray",))])
    assert list(tmp_path.iterdir()) == []


def test_making_it_fails_when_the_result_is_not_that_of_the_manifest(built: Path, tmp_path: Path) -> None:
    md5 = read_manifest(built, "photos")["test/gray/camera.png"]
    (tmp_path / "photos.md5").write_text((built / "photos.md5").read_text().replace(md5, "0" * 32))
    shutil.copy(built / "registry.yaml", tmp_path)
    with pytest.raises(LorunError, match=r"camera\.png differs from its manifest \(1 files do\)"):
        make(tmp_path, "photos")


def test_building_loads_neither_scikit_image_nor_scikit_learn(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from lorun.data import photos; "
        "photos.build(Path('photos')); "
        "sys.exit(bool({'skimage', 'sklearn', 'torch', 'dvc'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 0
