"""Files that are empty, cut, damaged or something else: every reader ends in one line, or gives values."""

import shutil
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import scipy.io.matlab
import torch
from damaged import damaged, one_line, tried
from fdncnn_file import write_fdncnn
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import loadmat, savemat, whosmat
from scipy.sparse import eye
from tiny import PROJECT

from lorun.data import matlab
from lorun.data.arrays import read_variable
from lorun.data.checksums import read_manifest
from lorun.data.cubes import read_band, read_cube
from lorun.data.images import read_image
from lorun.data.registry import read_registry
from lorun.denoisers.fdncnn import read_released as read_fdncnn
from lorun.errors import LorunError
from lorun.evaluation.reconstruct import reconstruct
from lorun.methods.shipped import read_shipped
from lorun.physics import read_matrix
from lorun.physics._kernels import read_kernels
from lorun.physics.block_cs import BlockCSConfig
from lorun.profiles.trials import Trial, read_trials, write_trials
from lorun.restore.files import Options, restore_files
from lorun.restore.photos import read_photo
from lorun.training.released import read_released
from lorun.training.weights import load_checkpoint, load_weights, read_about, save_checkpoint, save_weights

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (9, 12, 3), np.uint8)
VALUES = RANDOM.random((4, 4))

STATE = {"conv.weight": torch.ones(2, 1, 3, 3), "conv.bias": torch.zeros(2)}
MANIFEST = f"{'0' * 32}  dataset/train/a.png\n{'1' * 32}  dataset/test/b.png\n"
TRIAL = Trial(
    task="cs",
    setting="r25",
    method="lorun",
    parameter="learning_rate",
    value=1e-3,
    whole=False,
    run="0123456789",
    status="completed",
    validation_psnr=27.5,
    steps=10,
    training_flops=10**9,
    chosen=True,
)

Reader = Callable[[Path], Any]
READERS: dict[str, tuple[Reader, Callable[[Path], Any]]] = {
    "matrix.npy": (read_matrix, lambda path: np.save(path, VALUES)),
    "matrix.mat": (read_matrix, lambda path: savemat(path, {"phi": VALUES}, do_compression=True)),
    "matrix7.mat": (read_matrix, lambda path: savemat(path, {"phi": VALUES})),
    "matrix4.mat": (read_matrix, lambda path: savemat(path, {"phi": VALUES}, format="4")),
    "kernels.mat": (read_kernels, lambda path: savemat(path, {"kernels": np.array([VALUES, VALUES, 1], object)[:2]})),
    "kernels.npy": (read_kernels, lambda path: np.save(path, VALUES)),
    "cube.mat": (read_cube, lambda path: savemat(path, {"img": RANDOM.random((3, 3, 28))})),
    "cube.npy": (read_cube, lambda path: np.save(path, RANDOM.random((28, 3, 3)).astype(np.float32))),
    "band.png": (
        lambda path: read_band(path, path.read_bytes()),
        lambda path: Image.fromarray(PIXELS[..., 0]).save(path),
    ),
    **{
        f"image.{suffix}": (lambda path: read_image(path, 1), lambda path: Image.fromarray(PIXELS).save(path))
        for suffix in ("png", "tif", "bmp", "jpg", "ppm")
    },
    **{
        f"photo.{suffix}": (read_photo, lambda path: Image.fromarray(PIXELS).save(path))
        for suffix in ("png", "gif", "webp", "jpg", "tif")
    },
}
TEXTS_AND_WEIGHTS: dict[str, tuple[Reader, Callable[[Path], Any]]] = {
    "weights.safetensors": (load_weights, lambda path: save_weights(path, STATE, {"method": "lorun"})),
    "about.safetensors": (read_about, lambda path: save_weights(path, STATE, {"method": "lorun"})),
    "checkpoint.pt": (load_checkpoint, lambda path: save_checkpoint(path, {"step": 3, "weights": STATE})),
    "released.pth": (read_released, lambda path: torch.save({"state_dict": STATE}, path)),
    "trials.csv": (read_trials, lambda path: write_trials(path, [TRIAL])),
    "fdncnn.mat": (read_fdncnn, write_fdncnn),
    "config.json": (
        lambda path: read_shipped(path.parent),
        lambda path: shutil.copy(PROJECT / "models" / "cs25-desk-lorun" / "config.json", path),
    ),
    "registry.yaml": (
        lambda path: read_registry(path.parent),
        lambda path: shutil.copy(PROJECT / "data" / "registry.yaml", path),
    ),
    "dataset.md5": (lambda path: read_manifest(path.parent, path.stem), lambda path: path.write_text(MANIFEST)),
}
FUZZED = READERS | TEXTS_AND_WEIGHTS
OTHERS = {
    "empty": b"",
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "page": b"\n<!DOCTYPE html><html>",
    "zip": b"PK\x03\x04" + bytes(40),
    "pickle": b"\x80\x04cos\nsystem\n.",
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(200),
    "v7.3": b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(400),
    "text": b"1 2 3\n4 5 6\n",
    "zeros": bytes(500),
}


class Files(dict[str, bytes]):
    """The content of files by their names; short where Hypothesis shows it."""

    def __repr__(self) -> str:
        return "Files(...)"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """An intact file for each reader."""
    folder = tmp_path_factory.mktemp("whole")
    for name, (reader, write) in FUZZED.items():
        write(folder / name)
        assert one_line(reader, folder / name) == ""
    return Files({name: (folder / name).read_bytes() for name in FUZZED})


@pytest.mark.fuzz
@pytest.mark.parametrize("name", FUZZED)
@tried
@given(draw=st.data())
def test_damaged_files_end_in_one_line_or_in_values(
    name: str, whole: Files, tmp_path: Path, tally: Counter[str], draw: st.DataObject
) -> None:
    content = draw.draw(damaged(whole[name], [*whole.values(), *OTHERS.values()]))
    (tmp_path / name).write_bytes(content)
    tally["refused" if one_line(FUZZED[name][0], tmp_path / name) else "accepted"] += 1


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("other", OTHERS)
def test_other_files_are_refused_by_what_they_are(name: str, other: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(OTHERS[other])
    message = one_line(READERS[name][0], path)
    words = {"empty": "is empty", "pointer": "is a pointer of Git LFS", "page": "is a web page"}
    if path.suffix == ".mat":
        words |= dict.fromkeys(("hdf5", "v7.3"), "save -v7")
    if path.suffix == ".npy":
        words |= {
            "zip": "a .npz or zip archive",
            "pickle": "but a pickle",
            "text": "is no .npy file, but something else",
        }
    assert words.get(other, str(path)) in message
    assert "allow_pickle" not in message


@pytest.mark.parametrize("name", ["MATRIX.NPY", "Matrix.MAT", "IMAGE.PNG"])
def test_capital_suffixes(name: str, whole: Files, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(whole[name.lower()])
    assert one_line(READERS[name.lower()][0], tmp_path / name) == ""


@pytest.mark.parametrize("name", ["config.json", "registry.yaml"])
def test_brackets_in_brackets_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"[" * 100_000)
    assert "nested too deeply" in one_line(FUZZED[name][0], tmp_path / name)


def test_arrays_of_other_kinds_are_named(tmp_path: Path) -> None:
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = VALUES, VALUES
    for held, words in (
        (cells, r"holds objects \(a cell array, or a structure\)"),
        ({"a": 1}, r"holds objects \(a cell array, or a structure\)"),
        (eye(4), r"holds a sparse matrix \(use `full`\)"),
        (VALUES * 1j, "holds complex numbers"),
        ("text", "holds text"),
    ):
        savemat(tmp_path / "a.mat", {"phi": held})
        with pytest.raises(LorunError, match=words):
            read_matrix(tmp_path / "a.mat")
    np.save(tmp_path / "a.npy", cells, allow_pickle=True)
    with pytest.raises(LorunError, match=r"a\.npy holds Python objects: save an array of numbers"):
        read_matrix(tmp_path / "a.npy")
    for scalar in (np.float64(1), np.ones(3), np.ones((2, 2, 2, 2))):
        np.save(tmp_path / "a.npy", scalar)
        with pytest.raises(LorunError, match="expected one kernel or a stack of them"):
            read_kernels(tmp_path / "a.npy")


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_of_matlab_files_are_as_scipy_reads_them(tmp_path: Path, compressed: bool) -> None:
    types = [*np.typecodes["AllInteger"], "float32", "float64", "complex128", "bool"]
    shapes = ((1, 1), (3, 5), (2, 3, 4), (0, 3))
    written = {f"v{i}_{kind}": (RANDOM.random(shapes[i]) * 99).astype(kind) for i in range(4) for kind in types}
    written["cells"] = np.empty((2, 3), object)
    for place in np.ndindex(2, 3):
        written["cells"][place] = RANDOM.random((place[0] + 1, place[1]))
    savemat(tmp_path / "a.mat", written, do_compression=compressed)
    for name, expected in loadmat(tmp_path / "a.mat").items():
        if name.startswith("__"):
            continue
        values, _ = read_variable(tmp_path / "a.mat", variables=[name])
        assert (values.dtype, values.shape, values.flags.writeable) == (expected.dtype, expected.shape, True)
        for one, other in zip(values.ravel(), expected.ravel(), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["matrix7.mat", "kernels.mat"])
def test_no_type_of_an_element_ends_the_process(name: str, whole: Files, tmp_path: Path) -> None:
    """scipy takes some for an address, and Python is gone."""
    at = whole[name].rindex(b"\x09\x00\x00\x00\x80\x00\x00\x00")  # 128 bytes of double precision
    for kind in range(256):
        content = bytearray(whole[name])
        content[at] = kind
        (tmp_path / name).write_bytes(content)
        message = one_line(READERS[name][0], tmp_path / name)
        assert message == "" or "cannot be read as a MATLAB file" in message or "is not" in message
        assert message or kind in (9, 12, 13)


HELD = {
    "numbers": VALUES,
    "complex": VALUES * 1j,
    "text": "text",
    "cells": np.array([VALUES, "text", 1], object)[:2],
    "structure": {"a": VALUES, "b": "text"},
    "sparse": eye(4),
}


@pytest.mark.parametrize("held", HELD)
def test_no_byte_of_a_matlab_file_ends_the_process(held: str, tmp_path: Path) -> None:
    """scipy takes types for indices and trusts sizes: with some, Python is gone."""
    path = tmp_path / "a.mat"
    savemat(path, {"kernels": HELD[held]})
    whole = path.read_bytes()
    for at in range(128, len(whole)):
        for value in {0, 1, 14, 15, 255} - {whole[at]}:
            path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
            one_line(read_kernels, path)


def test_files_of_scipy_pass_the_look_before_it_reads_them() -> None:
    """Files by versions of MATLAB since 4, on several machines, with which scipy tests its own reader."""
    damaged = {"corrupted_zlib_data.mat"}  # behind the headers, which alone scipy reads first
    folder = Path(scipy.io.matlab.__file__).parent / "tests" / "data"
    if not folder.is_dir():
        pytest.skip("this scipy was installed without its tests")
    passed = 0
    for path in sorted(folder.glob("*.mat")):
        content = path.read_bytes()
        try:
            kinds = {name: kind for name, _, kind in whosmat(BytesIO(content))}
        except Exception:  # whatever scipy refuses
            continue
        if path.name not in damaged:
            matlab.check(content)
            for name in (name for name, kind in kinds.items() if kind not in ("function", "unknown")):
                matlab.check(content, name)
                passed += 1
    assert passed > 90


def test_a_stack_of_kernels_is_cut_along_the_axis_of_its_format(tmp_path: Path) -> None:
    stack = RANDOM.random((5, 7, 3))
    savemat(tmp_path / "a.mat", {"kernels": stack})
    np.save(tmp_path / "a.npy", stack.transpose(2, 0, 1))
    for name in ("a.mat", "a.npy"):
        for number, kernel in enumerate(read_kernels(tmp_path / name)):
            np.testing.assert_allclose(kernel, stack[..., number] / stack[..., number].sum())
    square = RANDOM.random((5, 5, 3))
    np.save(tmp_path / "b.npy", square)
    savemat(tmp_path / "b.mat", {"kernels": square.transpose(2, 0, 1)})
    with pytest.raises(LorunError, match=r"shape \(5, 5, 3\): a stack of kernels in this format is number x height"):
        read_kernels(tmp_path / "b.npy")
    with pytest.raises(LorunError, match=r"shape \(3, 5, 5\): a stack of kernels in this format is height x width"):
        read_kernels(tmp_path / "b.mat")


def test_large_images_are_refused_with_their_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.png"
    Image.new("1", (14000, 14000)).save(path)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10**9))
    for reader in (lambda path: read_image(path, 1), read_photo):
        message = one_line(reader, path)
        assert "has 14000 x 14000 pixels: reading it needs 4,704,000,000 bytes of memory, and 1,000,000,000" in message
    system = SimpleNamespace(
        physics=BlockCSConfig(ratio=25, block=8, initial="adjoint").build(),
        network=lambda y, physics: physics.A_adjoint(y),
    )
    image = np.zeros((1, 4104, 4104), np.uint8)
    with pytest.raises(LorunError, match=r"image a of 4104 x 4104 pixels, measured as a whole, needs 3,[\d,]+ bytes"):
        next(reconstruct(system, {"a": image}, torch.device("cpu")))
    Image.new("L", (4000, 8000)).save(path)
    model = SimpleNamespace(experiment=SimpleNamespace(channels=1))
    restorer = SimpleNamespace(model=model, physics=None)
    assert restore_files([path], restorer, Options(tmp_path / "out")) == ([], 1)
    assert "restoring 8000 x 4000 pixels needs 1,600,000,000 bytes of memory" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../evil", "/evil", ".evil"])
def test_a_dataset_of_the_registry_has_the_name_of_a_folder(tmp_path: Path, name: str) -> None:
    entry = "{role: test, tasks: [cs], what: w, licence: l, redistribution: 'no', citation: c, built_by: b}"
    (tmp_path / "registry.yaml").write_text(f"'{name}': {entry}")
    assert f"`{name}" in one_line(lambda path: read_registry(path.parent), tmp_path / "registry.yaml")


@pytest.mark.parametrize("template", ["http://a/{file}/{0}", "http://a/{file}{", "http://a/{file}{folder}"])
def test_a_wrong_template_of_the_registry_is_refused(tmp_path: Path, template: str) -> None:
    entry = "role: test, tasks: [cs], what: w, licence: l, redistribution: 'no', citation: c"
    (tmp_path / "registry.yaml").write_text(f"mine: {{{entry}, upstream: [{{address: '{template}'}}]}}")
    assert "in braces are `{file}`" in one_line(lambda path: read_registry(path.parent), tmp_path / "registry.yaml")
