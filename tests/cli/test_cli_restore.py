"""`lorun restore` with a model that was trained and saved."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from output import Output
from PIL import Image

from lorun.models.making import make_model
from lorun.models.model import save
from lorun.profiles import Profile, load_profile
from lorun.training import train

CPU = torch.device("cpu")


@pytest.fixture
def gray(tmp_path: Path, tiny_profile: Profile, tiny_data: Path) -> Path:
    """A model of compressed sensing, and a photograph."""
    experiment = tiny_profile.experiment("cs", "r25", "shared", 0)
    train(experiment, runs=tmp_path / "runs", data=tiny_data, device=CPU)
    save(make_model(experiment, runs=tmp_path / "runs"), tmp_path / "models/gray")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 45, 3), np.uint8)).save(tmp_path / "Foto é.png")
    return tmp_path / "models/gray"


def test_a_photograph(lorun: Callable[..., Output], error: Callable[..., str], gray: Path) -> None:
    done = lorun("restore", "models/gray", "Foto é.png", "--sheet", "--tile", "24")
    assert (done.status, done.err) == (0, "")
    titles, line = done.out.splitlines()
    assert titles.split("  ")[0] == "output"
    assert line.startswith("restored/gray/Foto é.png  45 x 30 ")
    assert float(line.split()[-1]) > 5
    assert sorted(path.name for path in Path("restored/gray").iterdir()) == ["Foto é.png", "Foto é.sheet.png"]
    assert Image.open("restored/gray/Foto é.png").size == (45, 30)
    again = lorun("restore", "models/gray", "Foto é.png")
    assert (again.status, again.out) == (0, "")
    assert again.err == "restored/gray/Foto é.png: exists and is kept; --force replaces it\n"
    assert error("restore", "models/gray", "none.png") == "cannot read none.png: No such file or directory"
    assert error("restore", "models/gray", "Foto é.png", "--out", ".") == (
        "Foto é.png: is an input, which is never overwritten: choose another folder with --out"
    )
    assert error("restore", "models/gray", "Foto é.png", "--cubes", "png") == "unknown format 'png'. Choices: npy, mat"
    assert error("restore", "models/gray", "Foto é.png", "--measured", "--force").startswith(
        "BlockCS: real measurements"
    )
    assert (
        error("restore", "models/gray", "Foto é.png", "--kernel", "k.npy")
        == "BlockCS has no kernel: leave out --kernel"
    )
    two = lorun("restore", "models/gray", "none.png", "Foto é.png", "--force")
    assert two.status == 1
    assert two.err == "error: cannot read none.png: No such file or directory\nerror: 1 of 2 could not be restored\n"


def test_a_real_low_resolution_picture(
    lorun: Callable[..., Output], sr_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sr_project)
    experiment = load_profile("sr.yaml").experiment("sr", "x2", "block1", 0)
    train(experiment, runs=tmp_path / "runs", data=Path("data"), device=CPU)
    save(make_model(experiment, runs=tmp_path / "runs"), tmp_path / "sr")
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (13, 11), np.uint8)).save("small.png")
    np.save("kernel.npy", np.full((3, 3), 1 / 9))
    for scale in (2, 3):
        words = ["--measured", "--kernel", "kernel.npy", "--scale", scale, "--out", f"x{scale}"]
        done = lorun("restore", "sr", "small.png", *words)
        assert (done.status, done.err) == (0, "")
        assert done.out.split() == ["output", "pixels", f"x{scale}/small.png", str(11 * scale), "x", str(13 * scale)]
        assert Image.open(f"x{scale}/small.png").mode == "L"
