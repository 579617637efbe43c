import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lorun.data.checksums import (
    dataset_identity,
    find_damage,
    known_datasets,
    md5_of_bytes,
    read_manifest,
    verify_dataset,
    write_manifest,
)
from lorun.errors import LorunError, UnknownName

PROJECT = Path(__file__).parents[2]
CAMERA = "test/gray/camera.png"


def refuses(match: str) -> "pytest.RaisesExc[LorunError]":
    return pytest.raises(LorunError, match=match)


def test_the_identity_is_that_of_dvc_by_hand(tmp_path: Path) -> None:
    for name, text in (("b", "2"), ("a/ü", "1")):
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_text(text)
    write_manifest(tmp_path, "own")
    one, two = md5_of_bytes(b"1"), md5_of_bytes(b"2")
    listing = f'[{{"md5": "{one}", "relpath": "a/\\u00fc"}}, {{"md5": "{two}", "relpath": "b"}}]'
    assert dataset_identity(tmp_path, "own") == md5_of_bytes(listing.encode()) + ".dir"


def test_a_manifest_written_anew_is_the_committed_one(root: Path) -> None:
    (root / "photos.md5").unlink()
    write_manifest(root, "photos")
    assert (root / "photos.md5").read_bytes() == (PROJECT / "data/photos.md5").read_bytes()


@pytest.mark.skipif(shutil.which("md5sum") is None, reason="no md5sum here")
def test_md5sum_accepts_the_manifest(built: Path) -> None:
    subprocess.run(["md5sum", "--check", "--strict", "--quiet", "photos.md5"], cwd=built, check=True)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (CAMERA, None, "is missing: run `lorun data fetch photos` to restore it"),
        (CAMERA, b"other", "does not have the checksum of its manifest: run `lorun data fetch photos` to restore it"),
        ("test/mine.png", b"", "is not part of the dataset: move it elsewhere"),
    ],
)
def test_a_wrong_file_is_named(root: Path, file: str, content: bytes | None, message: str) -> None:
    path = root / "photos" / file
    path.unlink() if content is None else path.write_bytes(content)
    with refuses(rf"^\S*{file} {message}$"):
        verify_dataset(root, "photos")


def test_a_missing_dataset_counts_its_files(root: Path) -> None:
    shutil.rmtree(root / "photos")
    with refuses(r"astronaut\.png \(and 27 more files differ\) is missing"):
        verify_dataset(root, "photos")


def test_every_kind_of_damage_at_once(root: Path) -> None:
    photos = root / "photos"
    (photos / CAMERA).rename(photos / "test/gray/kamera.png")
    (photos / "test/gray/coins.png").write_bytes(b"")
    assert find_damage(root, "photos") == {
        "test/gray/camera.png": "missing",
        "test/gray/coins.png": "changed",
        "test/gray/kamera.png": "extra",
    }


def test_known_datasets_are_the_registered_ones_then_those_with_a_manifest(root: Path, tmp_path: Path) -> None:
    (root / "mine.md5").write_text("")
    (root / "other").mkdir()
    assert known_datasets(root)[:2] == ["photos", "set11"]
    assert known_datasets(root)[-1] == "mine"
    assert "other" not in known_datasets(root)
    (tmp_path / "alone.md5").write_text("")
    assert known_datasets(tmp_path) == ["alone"]


@pytest.mark.parametrize("name", ["photo", "../data/photos", ""])
def test_an_unknown_dataset(built: Path, name: str) -> None:
    with pytest.raises(UnknownName, match=re.escape(f"unknown dataset {name!r}")):
        verify_dataset(built, name)
    with pytest.raises(UnknownName, match="Did you mean 'photos'"):
        verify_dataset(built, "photo")


def test_a_root_without_manifests(tmp_path: Path) -> None:
    with refuses("no dataset manifest"):
        verify_dataset(tmp_path, "photos")


@pytest.mark.parametrize(
    "line",
    [
        *("", "abc  photos/a.png", f"{'0' * 32}  other/a.png", f"{'0' * 32} photos/a", f"{'0' * 32}  photos"),
        *("ab//some/path/that/is/elsewhere/  photos/a.png", f"{'0' * 32}  photos/../../outside"),
    ],
)
def test_a_bad_line_of_a_manifest_is_named(root: Path, line: str) -> None:
    with (root / "photos.md5").open("a") as manifest:
        manifest.write(line + "\n")
    with refuses(r"photos\.md5, line 29: expected"):
        read_manifest(root, "photos")
