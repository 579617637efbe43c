"""FDnCNN with the weights that its authors released: read as data, and as good as published."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from fdncnn_file import write_fdncnn
from PIL import Image
from tiny import PROJECT

from lorun.adapters import AdaptedDenoiser
from lorun.denoisers.base import load_released
from lorun.denoisers.fdncnn import FDnCNNConfig, read_released
from lorun.errors import LorunError

BSD68 = {"test001": 26.69, "test002": 29.63, "test003": 28.64}  # dB, sigma 25, the top left 256 x 256 pixels
SIGMA = 25 / 255


def data(name: str) -> Path:
    path = PROJECT / "data" / name
    if not path.exists():
        pytest.skip(f"data/{name} is not there: `lorun data fetch {Path(name).parts[0]}`")
    return path


def released(kind: str, channels: int) -> torch.nn.Module:
    section = FDnCNNConfig(weights=data(f"weights_fdncnn/FDnCNN_{kind}.mat"))
    denoiser = section.build(channels, noise_map=True)
    load_released(section, dict(denoiser.named_parameters()))
    return denoiser


def psnr(denoiser: torch.nn.Module, path: Path) -> float:
    pixels = np.atleast_3d(np.asarray(Image.open(path)))[:256, :256]
    image = torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)[None]
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        estimate = denoiser(image + SIGMA * noise, torch.tensor(SIGMA)).clamp(0, 1)
    return float(-10 * (estimate - image).square().mean().log10())


@pytest.mark.parametrize(("image", "expected"), BSD68.items())
def test_the_gray_weights_reach_the_known_scores(image: str, expected: float) -> None:
    denoiser = released("gray", 1)
    assert sum(parameter.numel() for parameter in denoiser.parameters()) == 666_497
    assert psnr(denoiser, data(f"bsd68/{image}.png")) == pytest.approx(expected, abs=0.1)


def test_the_colour_weights_see_more_than_the_gray_ones() -> None:
    colour, gray = released("color", 3), released("gray", 1)
    assert sum(parameter.numel() for parameter in colour.parameters()) == 668_803
    path = data("cbsd68/101085.png")

    def each_channel(z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return gray(z.transpose(0, 1), sigma).transpose(0, 1)

    assert psnr(colour, path) > psnr(each_channel, path) + 1.5


@pytest.mark.parametrize("channels", [1, 3])
def test_kernels_are_read_the_right_way_round(tmp_path: Path, channels: int) -> None:
    kernels = write_fdncnn(tmp_path / "w.mat", channels=channels)
    section = FDnCNNConfig(width=4, depth=4, weights=tmp_path / "w.mat")
    denoiser = section.build(channels, noise_map=True)
    load_released(section, dict(denoiser.named_parameters()))
    for conv, kernel in zip(denoiser.convs, kernels, strict=True):
        np.testing.assert_array_equal(conv.weight.detach().numpy(), kernel)
        assert conv.bias.abs().min() > 0


def test_weights_fit_an_adapted_denoiser(tmp_path: Path) -> None:
    write_fdncnn(tmp_path / "w.mat")
    section = FDnCNNConfig(width=4, depth=4, weights=tmp_path / "w.mat")
    plain = section.build(1, noise_map=True)
    load_released(section, dict(plain.named_parameters()))
    adapted = AdaptedDenoiser(section.build(1, noise_map=True), stages=2, gamma=50)
    load_released(section, adapted.base_parameters())
    adapted.activate(1)
    z = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(adapted(z, torch.tensor(SIGMA)), plain(z, torch.tensor(SIGMA)))


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    write_fdncnn(tmp_path / "w.mat", channels=3)
    section = FDnCNNConfig(width=4, depth=4, weights=tmp_path / "w.mat")
    denoiser = section.build(1, noise_map=True)
    before = [parameter.clone() for parameter in denoiser.parameters()]
    with pytest.raises(LorunError, match=r"w.mat: .*`convs.0.weight`: shape \(4, 4, 3, 3\) instead of \(4, 2, 3, 3\)"):
        load_released(section, dict(denoiser.named_parameters()))
    assert all(map(torch.equal, before, denoiser.parameters()))
    deeper = section.model_copy(update={"depth": 5})
    with pytest.raises(LorunError, match=r"`convs.3.bias`: shape \(3,\) instead of \(4,\)"):
        load_released(deeper, dict(deeper.build(3, noise_map=True).named_parameters()))


def test_weights_need_a_noise_level(tmp_path: Path) -> None:
    with pytest.raises(LorunError, match="w.mat: weights of a denoiser that is told the noise level"):
        FDnCNNConfig(weights=tmp_path / "w.mat").build(1)


def test_a_section_without_weights_has_none_to_load() -> None:
    section = FDnCNNConfig()
    assert section.files == ()
    with pytest.raises(LorunError, match="'fdncnn' names no released weights"):
        load_released(section, {})


def test_files_that_hold_no_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.mat"
    with pytest.raises(LorunError, match="w.mat: cannot be read as weights of FDnCNN"):
        read_released(path)
    write_fdncnn(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(LorunError, match="w.mat: cannot be read as weights of FDnCNN"):
        read_released(path)
    path.write_bytes(content)
    with h5py.File(path, "r+") as file:
        file["bias2"][0, 1] = np.nan
    with pytest.raises(LorunError, match="convs.2.bias has values that are not finite"):
        read_released(path)
    with h5py.File(path, "w") as file:
        file["net/layers"] = np.zeros((0, 1), h5py.ref_dtype)
    with pytest.raises(LorunError, match="holds no convolutions"):
        read_released(path)
