"""Which files are a dataset's: one rule for manifests, checks, downloads and folders of images."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lorun.data import fetch as fetching
from lorun.data.checksums import find_damage, known_datasets, read_manifest, verify_dataset, write_manifest
from lorun.data.images import load_dataset, load_folder
from lorun.data.listing import files_below, files_in
from lorun.errors import LorunError
from lorun.restore.files import inputs_of

LEFT_BEHIND = (
    *(".DS_Store", "._a.png", ".ipynb_checkpoints/a-checkpoint.png", "__MACOSX/a.png", "Icon\r", "@eaDir/a.png"),
    *("Thumbs.db", "thumbs.DB", "desktop.ini", "a.png~", "#a.png#", "~$a.png", "a.png.bak", "a.png.part", ".a.png.swp"),
)
UNFIT = ("a\nb.png", "a\rb.png", "a\u202eb.png", "a\u2028b.png", os.fsdecode(b"caf\xe9.png"))


def save(path: Path, value: int = 99) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path, format="PNG")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data root with a dataset of one image for training and one for testing, and its manifest."""
    for split in ("train", "test"):
        save(tmp_path / "data/tiny" / split / "gray" / f"{split}.png")
    write_manifest(tmp_path / "data", "tiny")
    return tmp_path / "data"


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_what_programs_leave_is_never_data(data: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = (data / "tiny.md5").read_bytes()
    save(data / "tiny/test/gray" / name)
    assert files_below(data / "tiny") == ["test/gray/test.png", "train/gray/train.png"]
    shown = repr(f"test/gray/{name}") if "\r" in name else f"test/gray/{name.split('/')[0]}"
    assert capsys.readouterr().err == f"{data / 'tiny'}: 2 of 3 files are read; passed over: {shown}\n"
    verify_dataset(data, "tiny")
    write_manifest(data, "tiny")
    assert (data / "tiny.md5").read_bytes() == before
    assert list(load_dataset(data, "tiny", "test", 1)) == ["test"]
    assert list(load_folder(data / "tiny/test/gray", 1)) == ["test"]
    assert inputs_of([data / "tiny/test/gray"], 1) == [data / "tiny/test/gray/test.png"]


def test_many_files_are_counted_and_the_first_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "a.png")
    for name in ("b.jfif", "c.webp", "notes.txt", *(f"x{number}" for number in range(5))):
        (tmp_path / name).touch()
    for _ in range(2):
        files_in(tmp_path, ["*.png"])
    names = "b.jfif, c.webp, notes.txt, x0, x1 and 3 more"
    assert capsys.readouterr().err == f"{tmp_path}: 1 of 9 files are read; passed over: {names}\n"


def test_links_are_followed_or_refused_by_name(data: Path) -> None:
    identity = verify_dataset(data, "tiny")
    (data / "tiny/train").rename(data.parent / "big")
    (data / "tiny/train").symlink_to(data.parent / "big")
    assert verify_dataset(data, "tiny") == identity
    assert list(load_dataset(data, "tiny", "train", 1)) == ["train"]
    (data / "tiny/test/gray/b.png").symlink_to(data.parent / "gone.png")
    for list_files in (lambda: files_below(data / "tiny"), lambda: load_folder(data / "tiny/test/gray", 1)):
        with pytest.raises(LorunError, match=r"gray/b\.png is a link that leads nowhere"):
            list_files()
    (data / "tiny/test/gray/b.png").unlink()
    (data / "tiny/test/gray/loop").symlink_to(data / "tiny/test")
    with pytest.raises(LorunError, match="gray/loop is a link to a folder that it lies in"):
        find_damage(data, "tiny")


def test_nothing_is_restored_behind_a_link(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "tiny/train").rename(data.parent / "big")
    (data / "tiny/train").symlink_to(data.parent / "big")
    save(data.parent / "big/gray/train.png", 5)
    monkeypatch.chdir(data.parent)
    with pytest.raises(LorunError, match="data/tiny/train/gray/train.png lies behind a link, in .*big/gray: restore"):
        fetching.fetch("tiny")
    assert (data.parent / "big/gray/train.png").exists()


@pytest.mark.parametrize("name", UNFIT)
def test_names_that_no_table_can_hold_are_refused(data: Path, name: str) -> None:
    save(data / "tiny/test/gray" / name)
    for use in (
        lambda: write_manifest(data, "tiny"),
        lambda: load_folder(data / "tiny/test/gray", 1),
        lambda: inputs_of([data / "tiny/test/gray"], 1),
    ):
        with pytest.raises(LorunError, match="has control characters in its name, or is not in UTF-8") as refusal:
            use()
        assert str(refusal.value).isprintable()
    line = f"{'0' * 32}  tiny/test/gray/{name}\n"
    (data / "tiny.md5").write_bytes(line.encode(errors="surrogateescape"))
    with pytest.raises(LorunError, match=r"tiny\.md5, line [12]: expected"):
        read_manifest(data, "tiny")


def test_names_of_all_languages_are_read(tmp_path: Path) -> None:
    names = ["Größe, é", "=1+1", "写真", "a\u202fb", "it's"]
    for name in names:
        save(tmp_path / f"{name}.png")
    assert sorted(load_folder(tmp_path, 1)) == sorted(names)


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "a.txt").touch()
    assert list(load_folder(tmp_path, 1)) == ["a"]
    (tmp_path / "a.webp").touch()
    with pytest.raises(LorunError, match=r"a\.webp has the same name as another image, a\.png"):
        load_folder(tmp_path, 1)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"{'0' * 32}  tiny//etc/passwd", "which names no file inside its folder"),
        (f"{'0' * 32}  tiny/a/../../b", "which names no file inside its folder"),
        (f"{'0' * 32}  tiny/./a", "which names no file inside its folder"),
        (f"{'0' * 32}  tiny/.git/config", "which is hidden"),
        (f"{'0' * 32}  tiny/test/gray/test.png", "which is listed twice"),
        ("ab//some/path/outside/the/folder  tiny/a.png", "'ab//"),
        (f"{'A' * 32}  tiny/a.png", "'AAA"),
    ],
)
def test_no_path_of_a_manifest_leaves_its_folder(data: Path, line: str, reason: str) -> None:
    with (data / "tiny.md5").open("a") as manifest:
        manifest.write(f"{line}\n")
    with pytest.raises(LorunError, match=rf"tiny\.md5, line 3: expected '<md5>  tiny/<file>', found (.*, )?{reason}"):
        read_manifest(data, "tiny")


def test_a_hidden_manifest_is_no_dataset(data: Path) -> None:
    (data / "._tiny.md5").write_bytes(b"\x00\x05\x16\x07")
    assert known_datasets(data) == ["tiny"]
