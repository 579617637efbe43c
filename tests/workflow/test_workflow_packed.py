"""Runs as objects of a store."""

import io
import tarfile
from pathlib import Path

import pytest
from packed import pack, unpack


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_run_comes_back_where_it_was_without_what_only_its_machine_needs() -> None:
    run = Path("runs/cs/r25/lorun/seed0-ab")
    files = {"training.json": b"{}", "adapters/stage_1/adapter_model.safetensors": b"\x00\x01", "train.log": b"done"}
    for name, content in {**files, ".lock": b"", "checkpoint.pt": b"large", "trained.tar": b"old"}.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(content)
    store = Path("store/bucket/runs/cs/r25/lorun/seed0-ab/trained.tar").absolute()
    pack(store)
    run.rename("elsewhere")
    unpack(store)
    assert {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()} == files


def test_an_account_is_copied() -> None:
    account = Path("store/runs/cs/r25/lorun/accounting-ab.json")
    account.parent.mkdir(parents=True)
    account.write_text("{}")
    unpack(account)
    assert Path("runs/cs/r25/lorun/accounting-ab.json").read_text() == "{}"


@pytest.mark.parametrize("name", ["../outside", "{root}/outside", "a/../../../outside"])
def test_no_path_leaves_the_folder_of_the_run(name: str, tmp_path: Path) -> None:
    bad = Path("store/runs/cs/r25/lorun/seed0-ab/trained.tar")
    bad.parent.mkdir(parents=True)
    with tarfile.open(bad, "w") as archive:
        archive.addfile(tarfile.TarInfo(name.format(root=tmp_path)), io.BytesIO())
    before = {*Path().rglob("*")}
    try:
        unpack(bad)
    except tarfile.FilterError:
        assert {*Path().rglob("*")} == before
    else:  # a leading slash is removed
        assert {path for path in Path().rglob("*") if path.is_file()} - before <= {*Path("runs").rglob("*")}
    assert not Path("outside").exists()
