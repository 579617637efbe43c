"""Files in, files out: names, outputs that are kept, and what one bad file does to the others."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import loadmat

from lorun.data.cubes import read_cube
from lorun.errors import LorunError
from lorun.models import Model
from lorun.restore.files import Options, inputs_of, listing, psnr, restore_files
from lorun.restore.restoring import Restorer

CPU = torch.device("cpu")
CS = {"name": "block_cs", "ratio": 50, "block": 8, "initial": "pseudo_inverse"}


@pytest.fixture
def restorer(model: Callable[..., Model]) -> Restorer:
    made = model("initial_reconstruction", 1, **CS)
    return Restorer(made, made.physics, CPU)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three pictures and other files."""
    folder = tmp_path / "Meine Bilder"
    folder.mkdir()
    values = np.random.default_rng(0).integers(0, 256, (11, 14, 3), np.uint8)
    Image.fromarray(values).save(folder / "a b.png")
    Image.fromarray(values[..., 0]).save(folder / "Größe é.jpg")
    Image.fromarray(values[:5]).save(folder / "c.v2.tif")
    (folder / "notes.txt").write_text("text")
    Image.fromarray(values).save(folder / ".hidden.png")
    return folder


def test_a_folder_of_pictures(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    inputs = inputs_of([photos, photos / "a b.png"], 1)
    assert [path.name for path in inputs] == ["Größe é.jpg", "a b.png", "c.v2.tif"]
    done, failed = restore_files(inputs, restorer, Options(tmp_path / "out", sheet=True))
    assert failed == 0
    names = ["Größe é", "a b", "c.v2"]
    expected = [f"{name}{suffix}" for name in names for suffix in (".png", ".sheet.png")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(expected)
    for path in inputs:
        before = Image.open(path)
        after = Image.open(tmp_path / "out" / f"{path.stem}.png")
        assert (after.size, after.mode) == (before.size, before.mode)
    assert (done[0].output.name, done[0].height, done[0].width) == ("Größe é.png", 11, 14)
    estimate = np.asarray(Image.open(tmp_path / "out/a b.png"), float) / 255
    error = np.square(estimate - np.asarray(Image.open(photos / "a b.png"), float) / 255).mean()
    assert done[1].psnr == pytest.approx(-10 * np.log10(error), abs=0.05)
    assert done[1].psnr == done[1].psnr_measurement  # the model is the initial reconstruction
    assert listing(done).splitlines()[2].split()[-4:] == ["x", "11", *[f"{done[1].psnr:.2f}"] * 2]


def test_outputs_are_kept_and_replaced_when_asked(
    restorer: Restorer, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a b.png").write_text("mine")
    inputs = inputs_of([photos], 1)
    done, failed = restore_files(inputs, restorer, Options(out))
    assert ([line.output.stem for line in done], failed) == (["Größe é", "c.v2"], 0)
    assert (out / "a b.png").read_text() == "mine"
    assert capsys.readouterr().err == (
        f"{photos}: 3 of 5 files are read; passed over: .hidden.png, notes.txt\n"
        f"{out / 'a b.png'}: exists and is kept; --force replaces it\n"
    )
    restore_files(inputs[1:2], restorer, Options(out, force=True))
    assert Image.open(out / "a b.png").size == (14, 11)


def test_an_input_is_never_overwritten(restorer: Restorer, photos: Path) -> None:
    before = {path.name: path.read_bytes() for path in photos.iterdir()}
    with pytest.raises(LorunError, match=r"a b.png: is an input, which is never overwritten: choose another folder"):
        restore_files(inputs_of([photos], 1), restorer, Options(photos, force=True))
    assert {path.name: path.read_bytes() for path in photos.iterdir()} == before
    link = photos.parent / "link"
    link.symlink_to(photos, target_is_directory=True)
    with pytest.raises(LorunError, match="never overwritten"):
        restore_files([photos / "a b.png"], restorer, Options(link, force=True))


def test_two_inputs_of_one_name(restorer: Restorer, photos: Path, tmp_path: Path) -> None:
    Image.open(photos / "a b.png").save(photos / "a b.bmp")
    with pytest.raises(LorunError, match=r"out/a b.png: would be the output of .*a b.bmp and of .*a b.png: rename one"):
        restore_files(inputs_of([photos], 1), restorer, Options(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_bad_file_does_not_stop_the_others(
    restorer: Restorer, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "a b.png").write_text("text")
    done, failed = restore_files(inputs_of([photos], 1), restorer, Options(tmp_path / "out"))
    assert (len(done), failed) == (2, 1)
    assert f"\nerror: {photos / 'a b.png'} is not an image of a known format" in capsys.readouterr().err


def test_cubes_and_captures(model: Callable[..., Model], tmp_path: Path) -> None:
    made = model("initial_reconstruction", 28, name="cassi", mask_side=24)
    cube = np.random.default_rng(0).uniform(0, 1, (28, 20, 18)).astype(np.float32)
    np.save(tmp_path / "scene.npy", cube)
    worker = Restorer(made, made.physics, CPU)
    [line], _ = restore_files([tmp_path / "scene.npy"], worker, Options(tmp_path / "out", sheet=True))
    found = read_cube(tmp_path / "out/scene.npy")
    bands = -10 * np.log10(np.square(found - cube).mean((1, 2)))
    assert line.psnr == pytest.approx(bands.mean(), abs=1e-4)
    assert np.asarray(Image.open(tmp_path / "out/scene.png")).shape == (20, 18, 3)
    y = made.physics.at(20, 18)(torch.from_numpy(cube)[None])
    np.save(tmp_path / "capture.npy", y[0, 0].numpy())
    options = Options(tmp_path / "out", measured=True, peak=0, cubes="mat", sheet=True)
    [line], _ = restore_files(inputs_of([tmp_path / "capture.npy"], 28), worker, options)
    assert (line.psnr, line.psnr_measurement) == (None, None)
    np.testing.assert_allclose(loadmat(tmp_path / "out/capture.mat")["cube"].transpose(2, 0, 1), found, atol=1e-6)


def test_folders_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(LorunError, match=r"no pictures in this folder: looked for .bmp, .gif"):
        inputs_of([tmp_path], 3)
    with pytest.raises(LorunError, match=r"no pictures in this folder: looked for .mat, .npy, .bmp"):
        inputs_of([tmp_path], 28)
    assert inputs_of([tmp_path / "none.png"], 3) == [tmp_path / "none.png"]


def test_psnr_is_of_what_is_written() -> None:
    truth = torch.zeros(3, 4, 4)
    assert psnr(truth - 3, truth) == 80
    assert psnr(truth + 0.1, truth) == pytest.approx(20, abs=1e-4)
