"""Kernels, masks and captures of one's own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from lorun.errors import LorunError, UnknownName
from lorun.models import Model
from lorun.physics._kernels import gaussian_kernel
from lorun.restore.operators import operator_of, read_capture

CPU = torch.device("cpu")
Make = Callable[..., Model]
KERNELS = np.stack([gaussian_kernel(9, (width, width), 0.0).numpy() for width in (0.7, 1.6)]).astype(np.float32)


@pytest.fixture
def sr(model: Make) -> Model:
    return model("tikhonov", 3, name="blur_downsample", scale=2, kernels="drawn", scored=[4, 2])


@pytest.fixture
def cassi(model: Make) -> Model:
    return model("initial_reconstruction", 28, name="cassi", mask_side=24, scaling="mst")


@pytest.mark.parametrize(("degradation", "chosen"), [(None, "4"), ("2", "2")])
def test_a_kernel_of_the_model(sr: Model, degradation: str | None, chosen: str) -> None:
    physics = operator_of(sr, CPU, degradation=degradation)
    assert physics.degradations == ()
    assert torch.equal(physics.kernel, sr.physics.under(chosen).kernel)


def test_a_kernel_from_a_file(sr: Model, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", KERNELS[1])
    np.save(tmp_path / "two.npy", KERNELS)
    savemat(tmp_path / "one.mat", {"kernels": KERNELS[1]})
    Image.fromarray(np.rint(KERNELS[1] / KERNELS[1].max() * 65535).astype(np.uint16)).save(tmp_path / "kernel é.png")
    for name, degradation in (("one.npy", None), ("two.npy", "2"), ("one.mat", None), ("kernel é.png", None)):
        physics = operator_of(sr, CPU, kernel=tmp_path / name, degradation=degradation, scale=3)
        torch.testing.assert_close(physics.kernel, torch.from_numpy(KERNELS[1]), atol=1e-6, rtol=0)
        assert (physics.decimation, physics.degradations) == (3, ())
    with pytest.raises(LorunError, match=r"two.npy: holds 2 kernels: choose one with --degradation 1 to 2"):
        operator_of(sr, CPU, kernel=tmp_path / "two.npy")
    with pytest.raises(UnknownName, match="unknown kernel '3'. Choices: 1, 2"):
        operator_of(sr, CPU, kernel=tmp_path / "two.npy", degradation="3")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "black.png")
    with pytest.raises(LorunError, match=r"black.png: a black picture is no kernel"):
        operator_of(sr, CPU, kernel=tmp_path / "black.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (5, 5, 3), np.uint8)).save(tmp_path / "colour.png")
    with pytest.raises(LorunError, match=r"colour.png: is in colour; a mask, kernel or capture is gray"):
        operator_of(sr, CPU, kernel=tmp_path / "colour.png")


def test_a_mask_from_a_file(cassi: Model, tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 2, (30, 40)).astype(np.uint8)
    np.save(tmp_path / "mask.npy", mask)
    savemat(tmp_path / "mask.mat", {"mask": mask.astype(float)})
    Image.fromarray(mask * 255).save(tmp_path / "mask.png")
    for name in ("mask.npy", "mask.mat", "mask.png"):
        physics = operator_of(cassi, CPU, mask=tmp_path / name)
        assert torch.equal(physics.mask, torch.from_numpy(mask).float())
        assert physics.at(30, 40)(torch.ones(1, 28, 30, 40)).shape == (1, 1, 30, 94)
    assert cassi.physics.mask.shape == (24, 24)


def test_options_that_an_operator_does_not_have(sr: Model, cassi: Model, tmp_path: Path) -> None:
    for made, options, message in (
        (cassi, {"kernel": tmp_path}, "CASSI has no kernel: leave out --kernel"),
        (sr, {"mask": tmp_path}, "BlurDownsample has no mask: leave out --mask"),
        (cassi, {"degradation": "1"}, "the operator of this model has no kernels to choose from: leave out '1'"),
        (cassi, {"scale": 2}, "operator 'cassi': unknown key `scale`"),
        (sr, {"degradation": "3"}, "unknown kernel '3'. Choices: 4, 2"),
    ):
        with pytest.raises(LorunError) as caught:
            operator_of(made, CPU, **options)
        assert str(caught.value).startswith(message)


def test_noise_of_ones_own(sr: Model) -> None:
    assert operator_of(sr, CPU, noise=7.65).noise_level(torch.zeros(1, 3, 2, 2)).item() == pytest.approx(0.03)


def test_captures(cassi: Model, model: Make, tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(1, 5, (10, 70))
    savemat(tmp_path / "a.mat", {"meas_real": values})
    np.save(tmp_path / "a.npy", values)
    for name in ("a.mat", "a.npy"):
        scaled = read_capture(tmp_path / name, cassi.physics)
        np.testing.assert_allclose(scaled[0, 0].numpy(), values / values.max() * 0.8, rtol=1e-6)
        as_it_is = read_capture(tmp_path / name, cassi.physics, peak=0)
        np.testing.assert_allclose(as_it_is[0, 0].numpy(), values, rtol=1e-6)
    plain = model("initial_reconstruction", 28, name="cassi", mask_side=24)  # y is the sum over bands
    np.testing.assert_allclose(read_capture(tmp_path / "a.npy", plain.physics).max().item(), 0.8 * 14, rtol=1e-6)
    Image.fromarray(np.arange(700, dtype=np.uint16).reshape(10, 70)).save(tmp_path / "a.png")
    assert read_capture(tmp_path / "a.png", cassi.physics).max().item() == pytest.approx(0.8)
    np.save(tmp_path / "dark.npy", np.zeros((10, 70)))
    np.save(tmp_path / "cube.npy", np.ones((2, 10, 70)))
    for name in ("dark.npy", "cube.npy"):
        with pytest.raises(LorunError, match=r"has shape \(.*70\), expected height x width with a positive value"):
            read_capture(tmp_path / name, cassi.physics)
