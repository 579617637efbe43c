"""Pictures of every kind are read as a person sees them, or refused in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import loadmat

from lorun.data.cubes import read_cube
from lorun.data.spectral_photos import simulate, spectral_primaries
from lorun.errors import LorunError
from lorun.restore.photos import as_before, as_cube, in_channels, read_photo, read_picture, write_cube, write_photo

RGB = np.random.default_rng(0).integers(0, 256, (12, 17, 3), np.uint8)
GRAY = RGB[..., 0]


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def pixels(path: Path) -> np.ndarray:
    """What is read, as bytes (H, W) or (H, W, 3)."""
    values = read_photo(path).values
    assert values.dtype == torch.float32
    return np.rint(values.numpy() * 255).astype(np.uint8).transpose(1, 2, 0).squeeze()


@pytest.mark.parametrize("name", ["a.png", "b.tif", "c.bmp", "d.ppm", "Größe und é.PNG", "e.webp"])
def test_colours(tmp_path: Path, name: str) -> None:
    options = {"lossless": True} if name.endswith("webp") else {}
    np.testing.assert_array_equal(pixels(saved(tmp_path / name, Image.fromarray(RGB), **options)), RGB)


def test_gray_black_and_white_and_palettes(tmp_path: Path) -> None:
    np.testing.assert_array_equal(pixels(saved(tmp_path / "gray.png", Image.fromarray(GRAY))), GRAY)
    bits = Image.fromarray(GRAY).convert("1")
    np.testing.assert_array_equal(pixels(saved(tmp_path / "bits.png", bits)), np.asarray(bits) * np.uint8(255))
    palette = Image.fromarray(RGB).quantize(16)
    np.testing.assert_array_equal(pixels(saved(tmp_path / "palette.png", palette)), np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(pixels(saved(tmp_path / "one.gif", palette)), np.asarray(palette.convert("RGB")))


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    alpha = np.full(GRAY.shape, 255, np.uint8)
    alpha[:3], alpha[3:6] = 0, 128
    expected = RGB.astype(int)
    expected[:3] = 255
    expected[3:6] = np.rint((128 * RGB[3:6].astype(int) + 127 * 255) / 255)
    found = pixels(saved(tmp_path / "rgba.png", Image.fromarray(np.dstack([RGB, alpha])))).astype(int)
    assert np.abs(found - expected).max() <= 1
    found = pixels(saved(tmp_path / "la.png", Image.fromarray(np.dstack([GRAY, alpha]), "LA"))).astype(int)
    assert np.abs(found - expected[..., 0]).max() <= 1
    palette = Image.fromarray(RGB).quantize(16)
    clear = np.asarray(palette) == 3
    found = pixels(saved(tmp_path / "palette.png", palette, transparency=3))
    assert (found[clear] == 255).all()
    np.testing.assert_array_equal(found[~clear], np.asarray(palette.convert("RGB"))[~clear])


@pytest.mark.parametrize(("orientation", "turned"), [(3, np.rot90(RGB, 2)), (6, np.rot90(RGB, -1)), (8, np.rot90(RGB))])
def test_a_photo_that_was_taken_upright_is_upright(tmp_path: Path, orientation: int, turned: np.ndarray) -> None:
    image = Image.fromarray(RGB)
    exif = image.getexif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(pixels(saved(tmp_path / "a.png", image, exif=exif)), turned)


def test_sixteen_bits(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (12, 17)).astype(np.uint16)
    for name in ("a.png", "a.tif"):
        values = read_photo(saved(tmp_path / name, Image.fromarray(deep))).values
        np.testing.assert_allclose(values[0].numpy(), deep / 65535, atol=1e-7)
    floats = saved(tmp_path / "f.tif", Image.fromarray((deep / 65535).astype(np.float32)))
    np.testing.assert_allclose(read_photo(floats).values[0].numpy(), deep / 65535, atol=1e-7)
    cv2 = pytest.importorskip("cv2")
    colours = np.random.default_rng(0).integers(0, 65536, (12, 17, 3)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "rgb.png"), colours[..., ::-1])
    np.testing.assert_array_equal(pixels(tmp_path / "rgb.png"), colours >> 8)


def test_what_is_refused(tmp_path: Path) -> None:
    image = Image.fromarray(RGB)
    refused = {
        saved(tmp_path / "cmyk.tif", image.convert("CMYK")): "has the colours CMYK: convert it to gray or RGB first",
        saved(tmp_path / "lab.tif", image.convert("LAB")): "has the colours LAB",
        saved(tmp_path / "film.gif", image, save_all=True, append_images=[image.rotate(90)]): "holds 2 images",
        saved(
            tmp_path / "f.tif", Image.fromarray(GRAY.astype(np.float32))
        ): "has values from 0 to 254, expected 0 to 1;",
        tmp_path / "text.png": "is not an image of a known format: use one of PNG, JPEG",
        tmp_path / "cut.png": "cannot be decoded (",
    }
    (tmp_path / "text.png").write_text("text")
    whole = saved(tmp_path / "whole.png", image).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for path, message in refused.items():
        with pytest.raises(LorunError) as caught:
            read_photo(path)
        assert str(caught.value).startswith(f"{path} {message}")
        assert "\n" not in str(caught.value)
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(LorunError, match=f"^cannot read {path}: "):
            read_photo(path)


def test_cubes_and_photographs_are_not_confused(tmp_path: Path) -> None:
    photo, cube = saved(tmp_path / "a.png", Image.fromarray(RGB)), tmp_path / "c.npy"
    np.save(cube, np.zeros((28, 4, 5), np.float32))
    assert read_picture(cube, 28).values.shape == (28, 4, 5)
    assert read_picture(photo, 1).values.shape == (3, 12, 17)
    assert read_picture(photo, 28).values.shape == (28, 12, 17)
    with pytest.raises(LorunError, match=r"c.npy: this model restores photographs: give .bmp, "):
        read_picture(cube, 3)


def test_spectra_of_a_photograph_are_those_of_the_simulated_dataset() -> None:
    cube = as_cube(torch.from_numpy(RGB / np.float32(255)).permute(2, 0, 1)).numpy()
    expected = simulate(np.ascontiguousarray(RGB.transpose(2, 0, 1)), spectral_primaries()) / 65535
    np.testing.assert_allclose(cube, expected, atol=2e-5)
    assert as_cube(torch.ones(1, 2, 2)).numpy() == pytest.approx(np.ones((28, 2, 2)))


@pytest.mark.parametrize(
    ("picture", "channels", "batch"), [(1, 1, (1, 1)), (3, 1, (3, 1)), (1, 3, (1, 3)), (3, 3, (1, 3))]
)
def test_colours_of_a_gray_model_and_gray_of_a_colour_model(
    picture: int, channels: int, batch: tuple[int, int]
) -> None:
    values = torch.rand(picture, 4, 5)
    images = in_channels(values, channels)
    assert images.shape == (*batch, 4, 5)
    torch.testing.assert_close(as_before(images, picture), values)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    profile = b"a profile of colours"
    for values in (RGB, GRAY[..., None]):
        write_photo(tmp_path / "a.png", torch.from_numpy(values / np.float32(255)).permute(2, 0, 1), profile)
        np.testing.assert_array_equal(pixels(tmp_path / "a.png"), values.squeeze())
        assert read_photo(tmp_path / "a.png").profile == profile
    cube = torch.rand(28, 4, 5) * 1.5 - 0.2
    for name in ("a.npy", "a.mat"):
        write_cube(tmp_path / name, cube)
        np.testing.assert_array_equal(read_cube(tmp_path / name), cube.clamp(0, 1).numpy())
    assert loadmat(tmp_path / "a.mat")["cube"].shape == (4, 5, 28)
