"""The classical baselines: what they gain, and what they may not depend on."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lorun import plugins
from lorun.data import photos
from lorun.data.images import load_folder
from lorun.physics.block_cs import BlockCS, gaussian_matrix
from lorun.plugins.proximal import squared_norm
from lorun.training.patches import random_blocks

NAMES = ("total_variation", "plug_and_play")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "photos"
    photos.build(folder)
    return folder


@pytest.fixture(scope="module")
def image(folder: Path) -> torch.Tensor:
    """A photograph of the validation split: (1, 1, 90, 100)."""
    pixels = load_folder(folder / "validation/gray", 1)["chelsea"]
    return torch.from_numpy(pixels[None, :, 60:150, 120:220].copy()).float() / 255


@pytest.fixture(scope="module")
def fitted(folder: Path) -> Callable[[float], BlockCS]:
    """25 % of measurements, times a factor; the first estimate is fitted on the training split."""
    training = load_folder(folder / "train/gray", 1)

    def fitted(factor: float = 1.0) -> BlockCS:
        physics = BlockCS(factor * gaussian_matrix(64, 256, 0))
        physics.fit(lambda side, _: random_blocks(training, side, 4000, 0))
        return physics.at(90, 100)

    return fitted


@pytest.fixture
def physics(fitted: Callable[[float], BlockCS]) -> BlockCS:
    return fitted(1.0)


def error(estimate: torch.Tensor, truth: torch.Tensor) -> float:
    return (estimate - truth).square().mean().item()


@pytest.mark.parametrize("name", NAMES)
def test_better_than_the_first_estimate_and_consistent_with_the_measurements(name, image, physics):
    y = physics(image)
    estimate = plugins.build(name, physics, 1)(y, physics)
    assert error(estimate, image) < 0.9 * error(physics.initial_reconstruction(y), image)
    assert error(physics.A(estimate), y) < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_neither_another_image_before_nor_the_random_state_matters(name, image, physics):
    network = plugins.build(name, physics, 1)
    y = physics(image)
    torch.manual_seed(1)
    first = network(y, physics)
    network(physics(image.flip(2)), physics)
    torch.manual_seed(2)
    assert torch.equal(network(y, physics), first)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [0.1, 7.0])
def test_the_scale_of_phi_does_not_matter(name, image, fitted, factor):
    physics = fitted(factor)
    y = physics(image)
    estimate = plugins.build(name, physics, 1)(y, physics)
    assert error(estimate, image) < 0.9 * error(physics.initial_reconstruction(y), image)


@pytest.mark.parametrize("name", NAMES)
def test_colour_is_reconstructed_too(name, image, physics):
    colour = torch.cat([image, image.flip(2), image.flip(3)], dim=1)
    y = physics(colour)
    assert error(plugins.build(name, physics, 3)(y, physics), colour) < error(physics.initial_reconstruction(y), colour)


def test_the_norm_is_that_of_a_dense_matrix():
    torch.manual_seed(0)
    phi = torch.randn(16, 64)
    exact = torch.linalg.matrix_norm(phi, 2).item() ** 2
    found = squared_norm(BlockCS(phi, initial="adjoint"), torch.zeros(1, 1, 16, 16))
    assert 0.98 * exact < found < 1.02 * exact


def test_the_cosine_denoiser_keeps_what_is_above_its_threshold_and_averages_the_rest_away():
    denoise = plugins.build("plug_and_play", BlockCS(torch.rand(16, 64)), 1).denoiser
    x = torch.rand(2, 3, 19, 24)
    torch.testing.assert_close(denoise(x, 0.0), x)
    flat = torch.full((1, 1, 16, 16), 0.4)
    torch.testing.assert_close(denoise(flat, 0.5), flat)
    torch.manual_seed(0)
    noisy = flat + 0.05 * torch.randn(1, 1, 64, 64)[..., :16, :16]
    assert error(denoise(noisy, 0.05), flat) < 0.1 * error(noisy, flat)
