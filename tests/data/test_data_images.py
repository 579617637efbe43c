from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from lorun.data.images import load_dataset, load_folder, luminance, read_image
from lorun.errors import LorunError, UnknownName

RGB = np.random.default_rng(0).integers(0, 256, (12, 15, 3), dtype=np.uint8)  # as Pillow has it: (H, W, C)
GRAY = RGB[..., 0].copy()


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def one_pixel(r: int, g: int, b: int) -> int:
    return int(luminance(np.array([r, g, b], np.uint8).reshape(3, 1, 1))[0, 0, 0])


def test_luminance_by_hand() -> None:
    assert one_pixel(255, 0, 0) == 76  # 76.245
    assert one_pixel(0, 255, 0) == 150  # 149.685
    assert one_pixel(0, 0, 255) == 29  # 29.07
    assert one_pixel(200, 100, 50) == 124  # 59.8 + 58.7 + 5.7 = 124.2
    # 0.299 * 0 + 0.587 * 22 + 0.114 * 40 = 17.474, and 17.4999 or 17.5 would differ
    assert one_pixel(0, 22, 40) == 17


def test_luminance_is_that_of_opencv_to_the_bit() -> None:
    cv2 = pytest.importorskip("cv2")
    rgb = np.random.default_rng(1).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    expected = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb)[..., 0]
    np.testing.assert_array_equal(luminance(rgb.transpose(2, 0, 1))[0], expected)


def test_luminance_leaves_gray_as_it_is() -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    np.testing.assert_array_equal(luminance(np.repeat(gray, 3, axis=0)), gray)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "ppm"])
def test_colour_and_gray_files(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a.{suffix}", RGB)
    expected = RGB.transpose(2, 0, 1)
    np.testing.assert_array_equal(read_image(path, 3), expected)
    np.testing.assert_array_equal(read_image(path, 1), luminance(expected))
    path = save(tmp_path / f"b.{suffix.replace('ppm', 'pgm')}", GRAY)
    np.testing.assert_array_equal(read_image(path, 1), GRAY[None])
    np.testing.assert_array_equal(read_image(path, 3), np.stack([GRAY] * 3))


def test_jpeg_is_close(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(48)).astype(np.uint8)
    pixels = read_image(save(tmp_path / "a.jpg", smooth, quality=95), 1)
    assert pixels.shape == (1, 64, 48)
    assert abs(pixels[0].astype(int) - smooth).max() <= 4


def test_palette_is_resolved(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    image = Image.fromarray(RGB).quantize(16)
    image.save(path)
    np.testing.assert_array_equal(read_image(path, 3), np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def test_black_and_white_becomes_0_and_255(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", GRAY > 127)
    np.testing.assert_array_equal(read_image(path, 1)[0], np.where(GRAY > 127, 255, 0))


@pytest.mark.parametrize("pixels", [RGB, GRAY], ids=["rgb", "gray"])
def test_opaque_alpha_is_dropped_and_transparency_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    alpha = np.full(GRAY.shape, 255, np.uint8)
    path = save(tmp_path / "opaque.png", np.dstack([pixels, alpha]))
    np.testing.assert_array_equal(
        read_image(path, 3), np.dstack([pixels] * (1 + 2 * (pixels.ndim == 2))).transpose(2, 0, 1)
    )
    alpha[3, 4] = 254
    path = save(tmp_path / "clear.png", np.dstack([pixels, alpha]))
    with pytest.raises(LorunError, match=r"clear\.png is partly transparent"):
        read_image(path, 3)


def test_a_transparent_colour_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", GRAY, transparency=int(GRAY[0, 0]))
    with pytest.raises(LorunError, match="partly transparent"):
        read_image(path, 1)


@pytest.mark.parametrize("name", ["gray.png", "gray.tif", "gray.pgm"])
def test_16_bit_gray_is_refused(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, GRAY.astype(np.uint16) * 257)
    with pytest.raises(LorunError, match=rf"{name} is not 8-bit gray or RGB"):
        read_image(path, 1)


@pytest.mark.parametrize("name", ["rgb.png", "rgb.tif", "rgb.ppm"])
def test_16_bit_colour_is_refused(tmp_path: Path, name: str) -> None:
    cv2 = pytest.importorskip("cv2")  # Pillow cannot write these
    assert cv2.imwrite(str(tmp_path / name), RGB.astype(np.uint16) * 257)
    with pytest.raises(LorunError, match=rf"{name} is not 8-bit gray or RGB"):
        read_image(tmp_path / name, 3)


def test_float_and_cmyk_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "float.tif", GRAY.astype(np.float32))
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "cmyk.jpg")
    for name, reason in (
        ("float.tif", "is not 8-bit gray or RGB"),
        ("cmyk.jpg", "has the colours CMYK: convert it to"),
    ):
        with pytest.raises(LorunError, match=rf"{name} {reason}"):
            read_image(tmp_path / name, 1)


def test_several_images_in_one_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(GRAY).save(path, save_all=True, append_images=[Image.fromarray(GRAY)])
    with pytest.raises(LorunError, match=r"a\.tif holds 2 images"):
        read_image(path, 1)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "ppm"])
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_truncated_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, kept: float) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as after `import pyiqa`
    noise = np.random.default_rng(2).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    path = save(tmp_path / f"a.{suffix}", noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(LorunError, match=rf"a\.{suffix} (cannot be decoded|is not an image)") as refusal:
        read_image(path, 3)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_what_is_not_an_image_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(LorunError, match=r"a\.png (is not an image of a known format|cannot be decoded|is empty)"):
        read_image(path, 1)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(LorunError, match=r"cannot read \S*a\.png: No such file"):
        read_image(tmp_path / "a.png", 1)
    with pytest.raises(LorunError, match=f"cannot read {tmp_path}"):
        read_image(tmp_path, 1)


def test_other_numbers_of_channels_are_refused(built: Path) -> None:
    with pytest.raises(LorunError, match="channels, not 4"):
        read_image(built / "photos/test/gray/camera.png", 4)
    with pytest.raises(LorunError, match="channels, not 2"):
        load_dataset(built, "photos", "test", 2)


def test_load_dataset(built: Path) -> None:
    gray = load_dataset(built, "photos", "test", 1)
    assert {name: image.shape for name, image in gray.items()} == {
        "astronaut": (1, 512, 512),
        "camera": (1, 512, 512),
        "coins": (1, 303, 384),
        "grass": (1, 512, 512),
    }
    assert list(gray) == sorted(gray)
    assert {image.dtype for image in gray.values()} == {np.dtype(np.uint8)}
    colour = load_dataset(built, "photos", "test", 3)
    assert list(colour) == ["astronaut"]
    np.testing.assert_array_equal(luminance(colour["astronaut"]), gray["astronaut"])


def test_load_dataset_has_the_pixels_of_the_packages(built: Path) -> None:
    data = pytest.importorskip("skimage.data")
    np.testing.assert_array_equal(load_dataset(built, "photos", "test", 1)["camera"][0], data.camera())
    chelsea = load_dataset(built, "photos", "validation", 3)["chelsea"]
    np.testing.assert_array_equal(chelsea.transpose(1, 2, 0), data.chelsea())


def test_load_dataset_names_what_it_does_not_know(built: Path) -> None:
    with pytest.raises(UnknownName, match=r"unknown dataset 'fotos'\. Did you mean 'photos'"):
        load_dataset(built, "fotos", "test", 1)
    with pytest.raises(UnknownName, match=r"unknown split of photos 'validate'\. Did you mean 'validation'"):
        load_dataset(built, "photos", "validate", 1)


def test_load_dataset_finds_damage_at_use(root: Path) -> None:
    camera = root / "photos/test/gray/camera.png"
    save(camera, GRAY)  # a good image, but another one
    with pytest.raises(
        LorunError, match=r"camera\.png does not have the checksum of its manifest: run `lorun data fetch photos`"
    ):
        load_dataset(root, "photos", "test", 1)
    camera.unlink()
    with pytest.raises(LorunError, match=r"camera\.png is missing: run `lorun data fetch photos`"):
        load_dataset(root, "photos", "test", 1)
    assert load_dataset(root, "photos", "validation", 1)


def test_load_dataset_without_images_of_that_kind(tmp_path: Path) -> None:
    (tmp_path / "mine.md5").write_text(f"{'0' * 32}  mine/test/gray/a.png\n")
    with pytest.raises(LorunError, match="'mine' has no rgb images in its split test"):
        load_dataset(tmp_path, "mine", "test", 3)


def test_load_folder(tmp_path: Path) -> None:
    save(tmp_path / "b.PNG", RGB)
    save(tmp_path / "a.tif", GRAY)
    save(tmp_path / "c.pgm", GRAY)
    (tmp_path / "readme.txt").write_text("not an image")
    (tmp_path / "._b.png").write_bytes(b"what macOS leaves")
    images = load_folder(tmp_path, 3)
    assert {name: image.shape for name, image in images.items()} == dict.fromkeys("abc", (3, 12, 15))
    assert list(images) == ["a", "b", "c"]


def test_load_folder_refuses(tmp_path: Path) -> None:
    with pytest.raises(LorunError, match="no images in"):
        load_folder(tmp_path, 1)
    with pytest.raises(LorunError, match="no folder"):
        load_folder(tmp_path / "absent", 1)
    save(tmp_path / "a.png", GRAY)
    save(tmp_path / "a.tif", GRAY)
    with pytest.raises(LorunError, match=r"a\.tif has the same name as another image"):
        load_folder(tmp_path, 1)
