"""The ledger lists everything, and the committed page is the one that is made."""

import shutil

import pytest
from tiny import PROJECT

from lorun import plugins
from lorun.data.checksums import read_manifest
from lorun.data.registry import read_registry
from lorun.errors import LorunError
from lorun.profiles import load_profile
from lorun.results.licences import ledger, licences_of

DATA = PROJECT / "data"


def test_the_committed_page_is_the_one_that_is_made():
    assert (PROJECT / "LICENCES.md").read_text(encoding="utf-8") == ledger(DATA), "run `make licences`"


def test_every_dataset_weights_file_and_baseline_has_a_line():
    lines = [line.split(" | ") for line in ledger(DATA).splitlines() if line.startswith("| `")]
    names = [line[0].removeprefix("| ") for line in lines]
    expected = []
    for name, entry in read_registry(DATA).items():
        expected += (
            [f"`{name}/{file}`" for file in read_manifest(DATA, name)] if entry.role == "weights" else [f"`{name}`"]
        )
    expected += [f"`{name}`" for name in plugins.names()]
    assert sorted(names) == sorted(expected)
    assert all(cell.strip(" |") for line in lines for cell in line)


def test_a_dataset_without_a_licence_is_refused(tmp_path):
    for path in (DATA / "registry.yaml", *DATA.glob("*.md5")):
        shutil.copy(path, tmp_path)
    text = (tmp_path / "registry.yaml").read_text()
    licence = '  licence: "none stated"\n'
    assert licence in text
    (tmp_path / "registry.yaml").write_text(text.replace(licence, "", 1))
    with pytest.raises(LorunError, match=r"registry.yaml: `kernels12.licence` is missing"):
        ledger(tmp_path)


def test_a_variant_of_a_strategy_is_no_baseline():
    rows = licences_of(load_profile(PROJECT / "config/desk.yaml"), ["lorun_mixed_gate", "bicubic", "elsewhere"], DATA)
    named = {row["name"]: row["licence"] for row in rows}
    assert "lorun_mixed_gate" not in named
    assert named["bicubic"] == "MIT"
    assert named["elsewhere"] == "not registered"
