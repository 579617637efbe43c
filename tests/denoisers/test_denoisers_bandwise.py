"""One U-Net for all bands: what it sees, and that it does not depend on the band."""

import pytest
import torch

from lorun.denoisers.bandwise import Bandwise


@pytest.fixture
def denoiser() -> Bandwise:
    torch.manual_seed(0)
    return Bandwise(neighbours=1, width=4, levels=2, blocks=1, noise_map=True)


def test_each_band_is_denoised_from_its_neighbours_and_the_mean(denoiser: Bandwise) -> None:
    z, sigma = torch.rand(2, 4, 9, 7), torch.tensor(0.1)
    found = denoiser(z, sigma)
    for band, nearby in enumerate([(0, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 3)]):
        level = sigma.expand(2, 1, 9, 7)
        inputs = torch.cat([z[:, nearby], z.mean(1, keepdim=True), level], dim=1)
        torch.testing.assert_close(found[:, band], z[:, band] + denoiser.residual(inputs)[:, 0])


def test_each_image_may_have_its_own_noise_level(denoiser: Bandwise) -> None:
    z, levels = torch.rand(2, 3, 8, 8), torch.tensor([0.02, 0.5]).view(2, 1, 1, 1)
    apart = torch.cat([denoiser(z[i : i + 1], levels[i, 0, 0, 0]) for i in range(2)])
    torch.testing.assert_close(denoiser(z, levels), apart)


def test_without_neighbours_the_order_of_the_bands_does_not_matter() -> None:
    torch.manual_seed(0)
    denoiser = Bandwise(neighbours=0, width=4, levels=1, blocks=1)
    z = torch.rand(1, 5, 8, 8)
    torch.testing.assert_close(denoiser(z.flip(1)), denoiser(z).flip(1))
