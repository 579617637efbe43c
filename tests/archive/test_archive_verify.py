"""What `lorun verify` finds: any change of an archive, and paths that leave it."""

import hashlib
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from archived import Made
from damaged import damaged, one_line, tried
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import PROJECT

from lorun.archive.manifest import check_path, manifest, read_manifest
from lorun.archive.verify import verify
from lorun.errors import LorunError

OTHER_USER = 65534  # nobody


def pack(folder: Path, out: Path, change: Callable[[zipfile.ZipFile], object] | None = None) -> Path:
    """A ZIP file of a folder, and what `change` adds."""
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder).as_posix())
        if change is not None:
            change(archive)
    return out


def seal(folder: Path) -> None:
    """Write SHA256SUMS for the files as they are."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    files.pop("SHA256SUMS")
    (folder / "SHA256SUMS").write_text(manifest(files))


def refused(source: Path, message: str) -> None:
    with pytest.raises(LorunError) as error:
        verify(source)
    assert str(error.value).startswith(f"{source}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_archive_and_its_folder_are_intact(made: Made, unpacked: Path) -> None:
    for source in (made.archive, unpacked):
        count, versions = verify(source)
        assert count == sum(path.is_file() for path in unpacked.rglob("*"))
        assert [(one.result_set, one.version) for one in versions] == [("tiny", 1)]


def test_an_archive_that_others_packed_again_is_intact(unpacked: Path, tmp_path: Path) -> None:
    """With entries for folders, and compressed."""
    shutil.make_archive(str(tmp_path / "again"), "zip", unpacked)
    assert verify(tmp_path / "again.zip") == verify(unpacked)


# Files


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "name", ["results/tiny/rows.csv", "CITATION.cff", "config/base.yaml", "ro-crate-metadata.json"]
)
def test_a_changed_file_is_named(unpacked: Path, tmp_path: Path, name: str, packed: bool) -> None:
    content = bytearray((unpacked / name).read_bytes())
    content[len(content) // 2] ^= 1
    (unpacked / name).write_bytes(content)
    refused(pack(unpacked, tmp_path / "a.zip") if packed else unpacked, f"{name} is not what was exported")


@pytest.mark.parametrize("packed", [False, True])
def test_a_missing_and_an_additional_file_are_named(unpacked: Path, tmp_path: Path, packed: bool) -> None:
    (unpacked / "results/tiny/runs.csv").rename(unpacked / "results/tiny/runs2.csv")
    source = pack(unpacked, tmp_path / "a.zip") if packed else unpacked
    refused(source, "results/tiny/runs.csv is missing")
    shutil.copy(unpacked / "results/tiny/runs2.csv", unpacked / "results/tiny/runs.csv")
    source = pack(unpacked, tmp_path / "a.zip") if packed else unpacked
    refused(source, "results/tiny/runs2.csv is not part of it")


def test_a_hidden_file_is_additional(unpacked: Path) -> None:
    (unpacked / "config/.hidden").write_text("")
    refused(unpacked, "config/.hidden is not part of it")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_cut_archive_is_refused(made: Made, tmp_path: Path, share: float) -> None:
    content = made.archive.read_bytes()
    cut = tmp_path / "cut.zip"
    cut.write_bytes(content[: int(share * len(content))])
    refused(cut, "not a ZIP file, or damaged")


def test_a_damaged_byte_anywhere_is_found(made: Made, tmp_path: Path) -> None:
    """Of the files' content; the archive is stored, so that each byte of a file is a byte of the archive."""
    content = made.archive.read_bytes()
    with zipfile.ZipFile(made.archive) as archive:
        entries = archive.infolist()

    @given(st.sampled_from(entries), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
    @settings(max_examples=30, deadline=None)
    def check(entry: zipfile.ZipInfo, share: float, change: int) -> None:
        start = entry.header_offset + 30 + len(entry.filename.encode())
        damaged = bytearray(content)
        damaged[start + int(share * entry.file_size)] ^= change
        path = tmp_path / "damaged.zip"
        path.write_bytes(damaged)
        refused(path, f"{entry.filename} is damaged")

    check()


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("text")
    refused(tmp_path / "text.zip", "not a ZIP file, or damaged")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "no SHA256SUMS: not an archive that `lorun export` wrote")
    refused(PROJECT / "results/smoke", "no SHA256SUMS")


# The scores


def test_scores_that_are_not_those_of_the_version_are_refused(unpacked: Path) -> None:
    """Even if the list of hashes and that of the tables were written again."""
    rows, version = unpacked / "results/tiny/rows.csv", unpacked / "results/tiny/version.json"
    before = hashlib.sha256(rows.read_bytes()).hexdigest()
    rows.write_text(rows.read_text().replace(",20.0\n", ",29.0\n", 1))
    seal(unpacked)
    refused(unpacked, "results/tiny/rows.csv: not what was written with version.json")
    version.write_text(version.read_text().replace(before, hashlib.sha256(rows.read_bytes()).hexdigest()))
    seal(unpacked)
    refused(unpacked, "results/tiny: its tables hold other scores than version.json says")


@pytest.mark.parametrize(
    ("name", "message"),
    [("version.json", "results/tiny/version.json is missing"), ("rows.csv", "no result set (rows.csv) in it")],
)
def test_a_set_without_its_version_or_rows_is_refused(unpacked: Path, name: str, message: str) -> None:
    (unpacked / "results/tiny" / name).unlink()
    seal(unpacked)
    refused(unpacked, message)


# Paths


@pytest.mark.parametrize(
    "path", ["../evil", "a/../../evil", "/etc/evil", "a//b", "./a", "a/.", "", "C:/evil", "..\\evil", "a\nb", "a\0b"]
)
def test_a_path_that_leaves_the_archive_is_refused(unpacked: Path, tmp_path: Path, path: str) -> None:
    with pytest.raises(LorunError, match="unsafe path"):
        check_path(path)
    entry = zipfile.ZipInfo("x")
    entry.filename = entry.orig_filename = path
    refused(pack(unpacked, tmp_path / "a.zip", lambda archive: archive.writestr(entry, b"")), "unsafe path")
    if "\n" not in path and path:
        with (unpacked / "SHA256SUMS").open("a") as file:
            file.write(f"{'0' * 64}  {path}\n")
        refused(unpacked, "unsafe path")
    assert [one.name for one in tmp_path.parent.glob("**/evil")] == []


def test_a_link_is_refused(unpacked: Path, tmp_path: Path) -> None:
    name = "results/tiny/rows.csv"
    link = zipfile.ZipInfo("config/link")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    packed = pack(unpacked, tmp_path / "a.zip", lambda archive: archive.writestr(link, "/etc/passwd"))
    refused(packed, "config/link is a link or no ordinary file")
    shutil.move(unpacked / name, tmp_path / "rows.csv")
    (unpacked / name).symlink_to(tmp_path / "rows.csv")
    refused(unpacked, f"{name} is a link or no ordinary file")


def test_a_link_to_a_folder_and_a_pipe_are_refused(unpacked: Path, tmp_path: Path) -> None:
    (unpacked / "results/more").symlink_to(tmp_path, target_is_directory=True)
    refused(unpacked, "results/more is a link or no ordinary file")
    (unpacked / "results/more").unlink()
    os.mkfifo(unpacked / "results/pipe")
    refused(unpacked, "results/pipe is a link or no ordinary file")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused(unpacked: Path, tmp_path: Path) -> None:
    packed = pack(unpacked, tmp_path / "a.zip", lambda archive: archive.writestr("LICENSE", "another"))
    refused(packed, "LICENSE is in it twice")
    sums = unpacked / "SHA256SUMS"
    sums.write_text(sums.read_text() + sums.read_text().splitlines()[0] + "\n")
    refused(unpacked, "APPENDIX.md twice")


@pytest.mark.parametrize("line", [b"hash  file", b"0" * 64 + b" file", b"\xff\xfe", b"0" * 63 + b"g  file"])
def test_a_damaged_list_is_refused(line: bytes) -> None:
    with pytest.raises(LorunError, match="SHA256SUMS: damaged"):
        read_manifest(line)


def test_more_than_fits_into_memory_is_refused(made: Made, unpacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lorun.archive.verify._LARGEST", 10_000)
    for source in (made.archive, unpacked):
        refused(source, "too large for an archive")


# Elsewhere


def test_it_loads_neither_torch_nor_the_workflow(made: Made) -> None:
    start = "import sys; from lorun.archive.verify import verify; import pathlib; verify(pathlib.Path(sys.argv[1]))"
    code = f"{start}; print({{'torch', 'rocrate', 'dvc', 'deepinv', 'matplotlib'}} & {{*sys.modules}})"
    command = [sys.executable, "-c", code, str(made.archive)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"


def test_another_user_verifies_it_without_git_and_checkout(made: Made) -> None:
    """In an empty folder, with a copy of the library."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(PROJECT / "lorun", folder / "site/lorun", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(made.archive, folder / "tiny.zip")
        (folder / "empty").mkdir()
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        # It is verified once before the user changes, who may not read this Python and what it imports on the way.
        start = f"import os, sys; sys.path.insert(0, {str(folder / 'site')!r}); import lorun.cli, pathlib; "
        start += "from lorun.archive.verify import verify; verify(pathlib.Path(sys.argv[-1])); "
        start += f"os.setgroups([]); os.setgid({OTHER_USER}); os.setuid({OTHER_USER}); " if os.geteuid() == 0 else ""
        start += f"assert lorun.__file__.startswith({name!r}); lorun.cli.main()"
        result = subprocess.run(
            [sys.executable, "-c", start, "verify", str(folder / "tiny.zip")],
            cwd=folder / "empty",
            env={"PATH": "", "HOME": str(folder / "empty"), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )
        assert re.fullmatch(
            rf"{folder}/tiny.zip: intact, \d+ files; tiny version 1, scores \w{{10}}\n", result.stdout
        ), result.stderr
        assert [*(folder / "empty").iterdir()] == []


def test_what_cannot_be_read_is_named(made: Made, unpacked: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    (unpacked / "LICENSE").chmod(0)
    with pytest.raises(PermissionError):
        verify(unpacked)


def test_files_before_the_start_of_an_archive_are_damage(made: Made, tmp_path: Path) -> None:
    content = bytearray(made.archive.read_bytes())
    at = content.rindex(b"PK\x05\x06") + 16  # where the directory starts
    struct.pack_into("<I", content, at, struct.unpack_from("<I", content, at)[0] + 1000)
    (tmp_path / "a.zip").write_bytes(content)
    refused(tmp_path / "a.zip", "is damaged")


@pytest.mark.fuzz
@tried
@given(draw=st.data())
def test_a_damaged_archive_is_refused_in_a_line_or_has_all_its_files(
    made: Made, tmp_path: Path, tally: Counter[str], draw: st.DataObject
) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(draw.draw(damaged(made.archive.read_bytes())))
    message = one_line(verify, path)
    tally["refused" if message else "accepted"] += 1
    assert message or verify(path) == verify(made.archive)
