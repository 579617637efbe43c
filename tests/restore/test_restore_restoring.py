"""Pictures of any size, in tiles and whole; real measurements that do not wrap around."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from skimage.data import astronaut, camera

from lorun.errors import LorunError
from lorun.evaluation.reconstruct import reconstruct, reconstruct_measurements
from lorun.models import Model
from lorun.physics._kernels import gaussian_kernel
from lorun.restore.operators import operator_of
from lorun.restore.restoring import Restored, Restorer

CPU = torch.device("cpu")
Make = Callable[..., Model]

PHOTO = torch.tensor(astronaut()[:120, :90] / 255, dtype=torch.float32).permute(2, 0, 1)
CS = {"name": "block_cs", "ratio": 50, "block": 8, "initial": "pseudo_inverse"}
SR = {"name": "blur_downsample", "scale": 2, "kernels": "gaussian", "width": 1.0, "noise": 0.0}


def restorer(model: Model, side: int = 0, overlap: int = 16, **changes: object) -> Restorer:
    return Restorer(model, operator_of(model, CPU, **changes), CPU, side, overlap)


def psnr(image: torch.Tensor, truth: torch.Tensor) -> float:
    return float(-10 * (image - truth).square().mean().log10())


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (7, 23), (24, 17)])
@pytest.mark.parametrize(("baseline", "physics", "channels"), [("initial_reconstruction", CS, 1), ("tikhonov", SR, 3)])
def test_pictures_of_any_size(
    model: Make, baseline: str, physics: dict[str, object], channels: int, size: tuple[int, int]
) -> None:
    images = torch.rand(2, channels, *size)
    shares: list[float] = []
    restored = restorer(model(baseline, channels, **physics)).simulated(images, shares.append)
    assert restored.estimate.shape == restored.initial.shape == images.shape
    assert shares == [1]
    assert restored.estimate.isfinite().all()


@pytest.mark.parametrize(("baseline", "physics"), [("initial_reconstruction", CS), ("tikhonov", SR)])
def test_a_picture_of_whole_blocks_is_restored_as_it_is_scored(
    model: Make, baseline: str, physics: dict[str, object]
) -> None:
    made = model(baseline, 1, **physics)
    photo = np.ascontiguousarray(camera()[None, :48, 200:264])
    [scored] = reconstruct(made.system, {"camera": photo}, CPU)
    images = torch.tensor(photo / 255, dtype=torch.float32)[None]
    assert torch.equal(restorer(made).simulated(images).estimate[0], scored.estimate)


def test_tiles_of_whole_blocks_give_the_picture(model: Make) -> None:
    made = model("initial_reconstruction", 1, **CS)
    whole = restorer(made).simulated(PHOTO[:, None])
    shares: list[float] = []
    tiled = restorer(made, side=43, overlap=10).simulated(PHOTO[:, None], shares.append)
    torch.testing.assert_close(tiled.estimate, whole.estimate)
    assert shares == [done / 20 for done in range(1, 21)]


def test_tiles_of_a_blurred_picture_have_no_seams(model: Make) -> None:
    made = model("tikhonov", 3, **SR)
    whole = restorer(made).simulated(PHOTO[None]).estimate
    shares: list[float] = []
    tiled = restorer(made, side=64, overlap=24).simulated(PHOTO[None], shares.append)
    assert len(shares) == 6
    inside = (
        slice(None),
        slice(None),
        slice(8, -8),
        slice(8, -8),
    )  # each tile wraps around at the edges of the picture
    assert (tiled.estimate - whole)[inside].abs().max() < 0.02


def low_resolution(photo: torch.Tensor, scale: int, kernel: torch.Tensor) -> torch.Tensor:
    """What a camera sees: the blur continues beyond the edges of the picture."""
    reach = len(kernel) // 2
    padded = torch.nn.functional.pad(photo[:, None].double(), (reach,) * 4, mode="replicate")
    blurred = torch.nn.functional.conv2d(padded, kernel.flip(0, 1)[None, None])
    return blurred[..., ::scale, ::scale].transpose(0, 1).float()


@pytest.mark.parametrize("side", [0, 80])
def test_a_real_low_resolution_picture_does_not_wrap_around(model: Make, side: int) -> None:
    photo = PHOTO.clone()
    photo[:, :, :20], photo[:, :, -20:] = 0, 1
    kernel = gaussian_kernel(9, (1.6, 1.6), 0.0)
    y = low_resolution(photo, 3, kernel)
    made = model("tikhonov", 3, **SR)
    worker = restorer(made, side, scale=3)
    worker.physics = worker.physics.bound(drawn=kernel.float())
    shares: list[float] = []
    restored = worker.measured(y, shares.append)
    assert restored.estimate.shape == (1, 3, 120, 90)
    assert (len(shares) > 1) == (side > 0)
    wrapped = made(y, worker.physics.at(120, 90))
    assert psnr(restored.estimate[0], photo) > psnr(wrapped[0], photo) + 0.5
    assert restored.estimate[0, :, :, :6].abs().max() < 0.1 < wrapped[0, :, :, :6].abs().max()


def test_noise_differs_from_tile_to_tile(model: Make) -> None:
    made = model("initial_reconstruction", 1, name="denoising", noise=25)
    restored = restorer(made, side=16, overlap=0).simulated(torch.full((1, 1, 16, 32), 0.5)).estimate
    first, second = (restored - 0.5).split(16, dim=3)
    assert restored.std() == pytest.approx(25 / 255, rel=0.15)
    assert abs(np.corrcoef(first.flatten(), second.flatten())[0, 1]) < 0.2
    noisy = torch.rand(1, 1, 16, 32)
    assert torch.equal(restorer(made).measured(noisy).estimate, noisy)


@pytest.fixture
def cassi(model: Make) -> Model:
    return model("initial_reconstruction", 28, name="cassi", mask_side=24)


def test_a_capture_in_strips_is_that_in_one_piece(cassi: Model) -> None:
    scene = torch.rand(1, 28, 20, 18)
    y = cassi.physics.at(20, 18)(scene)
    [expected] = reconstruct_measurements(cassi.system, {"capture": y[0].numpy()}, 28, CPU)
    for side in (0, 8):
        shares: list[float] = []
        restored = restorer(cassi, side, overlap=3).measured(y, shares.append)
        torch.testing.assert_close(restored.estimate[0], expected.estimate)
        assert (len(shares) > 1) == (side > 0)


def test_scenes_larger_than_the_mask_are_restored_in_tiles(cassi: Model) -> None:
    shares: list[float] = []
    restored = restorer(cassi).simulated(torch.rand(1, 28, 30, 50), shares.append)
    assert isinstance(restored, Restored)
    assert restored.estimate.shape == (1, 28, 30, 50)
    assert len(shares) == 2 * 4


def test_measurements_that_cannot_be_taken(cassi: Model, model: Make) -> None:
    with pytest.raises(LorunError, match="a capture of 28 bands is wider than 54 pixels, this is 40"):
        restorer(cassi).measured(torch.rand(1, 1, 20, 40))
    with pytest.raises(LorunError, match="a scene of 30 x 26 is larger than the mask of 24 x 24"):
        restorer(cassi).measured(torch.rand(1, 1, 30, 80))
    with pytest.raises(LorunError, match="BlockCS: real measurements are taken for super-resolution, deblurring"):
        restorer(model("initial_reconstruction", 1, **CS)).measured(torch.rand(1, 1, 8, 8))
