"""`lorun doctor`: a line for each thing, its remedy where it is missing, and the number of cores."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import PROJECT

from lorun import cli
from lorun.cli.doctor import Check, _gpu, examine
from lorun.cores import available_cores


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Check]:
    """Of this machine, with one DVC remote that is there."""
    monkeypatch.setattr("lorun.data.fetch.remotes", lambda: {"store": str(PROJECT)})
    return {check.name: check for check in examine()}


def named(name: str) -> Check:
    return next(check for check in examine() if check.name == name)


@pytest.fixture(autouse=True)
def _no_remotes(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC takes a second to start."""
    monkeypatch.setattr("lorun.data.fetch.remotes", dict)


def test_what_is_needed_is_here(checks: dict[str, Check]) -> None:
    assert list(checks) == [
        *("Python", "packages", "PyTorch", "GPU", "bfloat16", "cores", "memory", "disk", "DVC", "browser"),
    ]
    assert all(check.state != "missing" for check in checks.values())
    assert all("\n" not in str(check) for check in checks.values())
    assert torch.__version__ in checks["PyTorch"].found
    assert checks["DVC"].state == "ok"


def test_a_missing_package_ends_with_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "importlib.metadata.requires", lambda _: ["no-such-package>=1", 'other; extra == "docs"', "torch>=2"]
    )
    monkeypatch.setattr(sys, "argv", ["lorun", "doctor"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "missing  packages  without no-such-package; `make setup` installs them"


def test_torch_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    check = named("PyTorch")
    assert check.state == "missing"
    assert "cannot be imported" in check.found


def test_an_optional_thing_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(name: str) -> str:
        if name == "rocrate":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("importlib.metadata.version", installed)
    monkeypatch.setattr("shutil.which", lambda _: None)
    found = {check.name: check for check in examine()}
    assert {check.name for check in found.values() if check.state == "note"} >= {"packages", "browser"}
    assert "rocrate (for lorun export)" in found["packages"].found
    assert all(check.state != "missing" for check in found.values())


def test_remotes_that_are_folders_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    places = {"here": str(tmp_path), "gone": str(tmp_path / "gone"), "far": "s3://bucket/path"}
    monkeypatch.setattr("lorun.data.fetch.remotes", lambda: places)
    [check] = [check for check in examine() if check.name == "DVC"]
    assert (check.state, check.found) == ("note", "remotes here, gone, far")
    assert check.remedy.startswith("the folder of gone is gone")


def test_gpus_are_listed_with_their_memory() -> None:
    cuda = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 2,
        get_device_properties=lambda number: SimpleNamespace(name=f"GPU {number}", total_memory=8e10),
    )
    assert _gpu(SimpleNamespace(cuda=cuda)).found == "GPU 0 (80 GB), GPU 1 (80 GB)"


def test_a_gpu_that_pytorch_cannot_use_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: name)
    unusable = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False), version=SimpleNamespace(cuda="13.2"))
    check = _gpu(unusable)
    assert (check.state, check.found) == ("note", "none that PyTorch for CUDA 13.2 can use")


# Cores


def test_the_cores_are_those_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert available_cores() == 3
    assert named("cores").found.startswith("3 ")
    monkeypatch.delattr(os, "sched_getaffinity")
    assert available_cores() == os.cpu_count()


@pytest.mark.parametrize("variable", ["OMP_NUM_THREADS", "OMP_THREAD_LIMIT"])
def test_make_counts_the_cores_whatever_openmp_is_told(variable: str) -> None:
    command = ["make", "--silent", "--eval", "count:;@echo $(CORES)", "count"]
    environment = {name: value for name, value in os.environ.items() if name != "CORES" and "MAKE" not in name}
    found = subprocess.run(command, cwd=PROJECT, env={**environment, variable: "1"}, capture_output=True, text=True)
    assert found.stdout.strip() == str(available_cores()), found.stderr
