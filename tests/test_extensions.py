"""What an installed package adds: an operator, a denoiser, a protocol and a dataset, as the suite's own."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from pages import blocks
from tiny import PROJECT

from lorun import extensions
from lorun.data.checksums import known_datasets, read_manifest, verify_dataset, write_manifest
from lorun.data.registry import read_registry
from lorun.denoisers import DENOISERS
from lorun.errors import LorunError, UnknownName
from lorun.evaluation.protocols import get_protocol
from lorun.evaluation.reconstruct import evaluate
from lorun.physics import OPERATORS
from lorun.profiles import load_profile
from lorun.profiles.references import check_references
from lorun.provenance import provenance
from lorun.training import train

CPU = torch.device("cpu")

DENOISER = """
from typing import Literal
from torch import Tensor, nn
from lorun.denoisers.base import DenoiserSection

class Scaled(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, z: Tensor, sigma: Tensor | None = None) -> Tensor:
        return z + 0.1 * self.conv(z)

class ScaledConfig(DenoiserSection):
    name: Literal["scaled"] = "scaled"

    def build(self, channels: int, noise_map: bool = False) -> Scaled:
        return Scaled(channels)
"""

PROTOCOL = """
from lorun.evaluation.protocols import Measure, Protocol

lab = Protocol("lab_psnr", "gray", (Measure("psnr", "clip"),), "our paper")
"""

ENTRIES = """
[lorun.operators]
inpainting = lab_tools.inpainting
[lorun.denoisers]
scaled = lab_tools.scaled
[lorun.protocols]
lab_psnr = lab_tools.scores:lab
[lorun.datasets]
lab = lab_tools
"""

DATASET = {
    "lab_photos": {
        "role": "train+test",
        "tasks": ["cs"],
        "what": "photographs",
        "licence": "CC0",
        "redistribution": "yes",
        "citation": "none",
        "built_by": "lab_tools.photos",
    }
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the package `lab_tools` 1.2, installed as pip does."""
    package, info = tmp_path / "site/lab_tools", tmp_path / "site/lab_tools-1.2.dist-info"
    for folder in (package, info):
        folder.mkdir(parents=True)
    (operator,) = (one for one in blocks(PROJECT / "docs/task.md") if one.note == "lorun/physics/inpainting.py")
    files = {"__init__": "", "inpainting": operator.text, "scaled": DENOISER, "scores": PROTOCOL}
    for name, text in files.items():
        (package / f"{name}.py").write_text(text)
    (package / "registry.yaml").write_text(yaml.safe_dump(DATASET))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab_tools\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(package.parent)
    _forget()
    yield package
    _forget()


def _forget() -> None:
    for name in [name for name in sys.modules if name.startswith("lab_tools")]:
        del sys.modules[name]
    OPERATORS.get.cache_clear()
    DENOISERS.get.cache_clear()
    extensions._declared.cache_clear()


@pytest.fixture
def profile_file(install: Path, tiny_profile_file: Path) -> Path:
    content = yaml.safe_load(tiny_profile_file.read_text())
    task = content["tasks"]["cs"]
    task |= {"physics": {"name": "inpainting"}, "settings": {"r25": {"kept": 0.5}}, "denoiser": {"name": "scaled"}}
    task |= {"strategies": ["block_k"], "baselines": []}
    task["evaluation"]["protocols"] = ["lab_psnr"]
    tiny_profile_file.write_text(yaml.safe_dump(content))
    return tiny_profile_file


def test_all_of_it_is_trained_and_scored(profile_file: Path, tiny_data: Path, tmp_path: Path) -> None:
    profile = load_profile(profile_file)
    check_references(profile, tiny_data)
    experiment = profile.experiment("cs", "r25", "block_k", 0)
    assert train(experiment, runs=tmp_path, data=tiny_data, device=CPU).status == "completed"
    rows = evaluate(experiment, runs=tmp_path, data=tiny_data, device=CPU).rows
    assert {(row["protocol"], row["metric"]) for row in rows} == {("lab_psnr", "psnr")}
    versions = provenance(experiment, {}, CPU)["versions"]
    for name in ("inpainting", "scaled", "lab_psnr"):
        assert f" {name}={extensions.digest_of_folder(tmp_path / 'site/lab_tools')}@lab_tools%201.2" in versions


def test_its_code_counts_in_the_key_of_a_run(install: Path, profile_file: Path) -> None:
    def key() -> str:
        return load_profile(profile_file).experiment("cs", "r25", "block_k", 0).key

    before = key()
    (install / "README.md").write_text("New.")
    assert key() == before
    (install / "scaled.py").write_text(DENOISER.replace("0.1", "0.2"))
    assert key() != before


def test_its_dataset_is_registered_and_verified(install: Path, tiny_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_data / "tiny", data / "lab_photos")
    write_manifest(data, "lab_photos")
    (data / "lab_photos.md5").rename(install / "lab_photos.md5")
    assert known_datasets(data) == ["lab_photos"]
    assert read_registry(data)["lab_photos"].licence == "CC0"
    assert read_manifest(data, "lab_photos")
    verify_dataset(data, "lab_photos")
    (data / "registry.yaml").write_text(yaml.safe_dump(DATASET))
    with pytest.raises(LorunError, match="another dataset called 'lab_photos'"):
        read_registry(data)


def test_what_is_declared_wrongly_is_told(install: Path) -> None:
    entries = install.with_name("lab_tools-1.2.dist-info") / "entry_points.txt"
    wrong = {
        "cassi = lab_tools.inpainting": "the name of one of the suite",
        "new = lab_tools.nothing": "cannot be imported",
    }
    for line, message in wrong.items():
        entries.write_text(f"[lorun.operators]\n{line}\n[lorun.protocols]\nours = lab_tools.scores:missing\n")
        _forget()
        with pytest.raises(LorunError, match=message):
            OPERATORS.get(line.split(" = ")[0])
    with pytest.raises(
        LorunError, match=r"protocol 'ours': the entry point 'lab_tools.scores:missing' of lab_tools 1.2"
    ):
        get_protocol("ours")
    with pytest.raises(UnknownName, match="Did you mean 'cs_float_y'"):
        get_protocol("cs_float")
