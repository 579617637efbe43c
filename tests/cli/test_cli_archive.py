"""`lorun export`, `verify` and `appendix` on the command line."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from output import Output
from tiny import PROJECT


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project's root with one committed result set, in the folder in which `lorun` runs."""
    for name in ("config", "data", "CITATION.cff", "LICENSE"):
        os.symlink(PROJECT / name, tmp_path / name)
    shutil.copytree(PROJECT / "results/transfer", tmp_path / "results/transfer")
    return tmp_path


def test_a_set_is_exported_and_verified(project: Path, lorun: Callable[..., Output]) -> None:
    status, out, err = lorun("export", "results/transfer", "--out", "out/a.zip", "--date", "2026-11-30")
    assert (status, err) == (0, "")
    assert re.fullmatch(r"wrote out/a.zip: \d+ files, \d\.\d MB, sha256 [0-9a-f]{64}\n", out)
    shutil.unpack_archive("out/a.zip", "there")
    for source in ("out/a.zip", "there"):
        status, out, err = lorun("verify", source)
        assert (status, err) == (0, "")
        assert re.fullmatch(rf"{source}: intact, \d+ files; transfer version \d+, scores [0-9a-f]{{10}}\n", out)


def test_what_differs_is_one_line(project: Path, lorun: Callable[..., Output], error: Callable[..., str]) -> None:
    lorun("export", "results/transfer", "--out", "a.zip", "--date", "2026-11-30")
    shutil.unpack_archive("a.zip", "there")
    Path("there/LICENSE").write_text("mine")
    assert error("verify", "there") == "there: LICENSE is not what was exported"
    assert error("verify", "nowhere.zip") == "nowhere.zip: No such file or directory"


@pytest.mark.parametrize("date", ["30.11.2026", "2026-02-30", "now"])
def test_a_date_that_is_none_is_refused(project: Path, lorun: Callable[..., Output], date: str) -> None:
    status, _, err = lorun("export", "results/transfer", "--out", "a.zip", "--date", date)
    assert status == 2
    assert "Invalid value for '--date'" in err
    assert not Path("a.zip").exists()


def test_the_appendix_is_printed(project: Path, lorun: Callable[..., Output]) -> None:
    status, out, err = lorun("appendix", "results/transfer")
    assert (status, err) == (0, "")
    assert out.startswith("# Artifact appendix of `transfer`\n")
