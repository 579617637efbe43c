"""Tensors on disk: what is damaged, of another network, or dangerous is refused with the file's name."""

import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn

from lorun.errors import LorunError
from lorun.training.weights import load_checkpoint, load_state, load_weights, save_checkpoint, save_weights

CHECKPOINT = {"done": 3, "system": {"w": torch.arange(6.0).reshape(2, 3)}, "curve": [{"loss": 0.5}], "best": None}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "good.pt"
    save_checkpoint(path, CHECKPOINT)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "good.safetensors"
    save_weights(path, {"b": torch.ones(2, 3), "a": torch.zeros(4)}, {"experiment": "{}", "step": "8"})
    return path


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "damaged"


class Malice:
    """Unpickling it would make a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return Path.touch, (self.trace,)


def assert_refused(load, path: Path) -> None:
    with pytest.raises(LorunError) as refused:
        load(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "weights_only" not in str(refused.value)  # torch's advice: to load it all the same


def test_a_tensor_of_two_names_is_written_under_both(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    save_weights(tmp_path / "w.safetensors", {"a": shared, "b": shared, "part": shared[1:], "c": torch.zeros(2)}, {})
    found = load_weights(tmp_path / "w.safetensors")
    assert {name: value.tolist() for name, value in found.items()} == {
        "a": [0, 1, 2, 3],
        "b": [0, 1, 2, 3],
        "part": [1, 2, 3],
        "c": [0, 0],
    }


def test_a_checkpoint_comes_back_as_it_was(checkpoint: Path) -> None:
    loaded = load_checkpoint(checkpoint)
    assert torch.equal(loaded.pop("system")["w"], CHECKPOINT["system"]["w"])
    assert loaded == {name: value for name, value in CHECKPOINT.items() if name != "system"}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(deadline=None)
@given(data=st.binary(max_size=60))
@example(data=b"")
@example(data=b".")  # a pickle that ends before it begins
@example(data=b"hello")
@example(data=b"\x80\x02.")
@example(data=b"PK\x03\x04")
@example(data=b"\0" * 5000)  # a tar archive, to torch
def test_bytes_that_are_no_checkpoint(damaged: Path, data: bytes) -> None:
    damaged.write_bytes(data)
    assert_refused(load_checkpoint, damaged)
    assert_refused(load_weights, damaged)


@settings(deadline=None, max_examples=50)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_ends_early(checkpoint: Path, weights: Path, damaged: Path, share: float) -> None:
    for good, load in ((checkpoint, load_checkpoint), (weights, load_weights)):
        data = good.read_bytes()
        damaged.write_bytes(data[: int(len(data) * share)])
        assert_refused(load, damaged)


@pytest.mark.parametrize("through_torch", [True, False])
def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(tmp_path: Path, through_torch: bool) -> None:
    path, trace = tmp_path / "checkpoint.pt", tmp_path / "trace"
    content = {**CHECKPOINT, "best": Malice(trace)}
    if through_torch:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    assert_refused(load_checkpoint, path)
    assert not trace.exists()
    torch.load(path, weights_only=False) if through_torch else pickle.loads(path.read_bytes())
    assert trace.exists()  # it would have worked


def test_a_checkpoint_that_is_no_mapping(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    assert_refused(load_checkpoint, tmp_path / "list.pt")


@pytest.mark.parametrize("load", [load_checkpoint, load_weights])
def test_a_missing_file_and_a_folder(load, tmp_path: Path) -> None:
    assert_refused(load, tmp_path / "missing")
    assert_refused(load, tmp_path)


def test_weights_come_back_with_what_is_said_about_them(weights: Path) -> None:
    loaded = load_weights(weights)
    assert torch.equal(loaded["a"], torch.zeros(4))
    assert torch.equal(loaded["b"], torch.ones(2, 3))
    with safe_open(weights, framework="pt") as file:
        assert file.metadata() == {"about": '{"experiment": "{}", "step": "8"}'}


def test_the_same_weights_are_the_same_bytes(tmp_path: Path) -> None:
    def written(at: int) -> bytes:
        path = tmp_path / f"{at}.safetensors"
        save_weights(path, {"a": torch.ones(3)}, {"experiment": "{}", "step": "8", "more": "", "still more": ""})
        return path.read_bytes()

    assert len({written(at) for at in range(20)}) == 1  # several entries of metadata would come in any order


def test_a_state_that_fits_is_loaded() -> None:
    layer = nn.Linear(2, 1)
    load_state(layer, {"weight": torch.tensor([[5.0, 6.0]]), "bias": torch.tensor([7.0])}, Path("file"))
    assert layer(torch.tensor([1.0, 1.0])).item() == 18


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weight": torch.zeros(1, 3)}, r"`weight`: shape \(1, 3\) instead of \(1, 2\)"),
        ({"weight": None}, "`weight`: the file lacks it"),
        ({"extra": torch.zeros(1)}, "`extra`: the network has no such tensor"),
    ],
)
def test_a_state_that_does_not_fit_is_named_and_changes_nothing(change: dict, words: str) -> None:
    layer = nn.Linear(2, 1)
    before = [parameter.clone() for parameter in layer.parameters()]
    state = {"weight": torch.zeros(1, 2), "bias": torch.zeros(1)} | change
    with pytest.raises(LorunError, match="file.pt: does not fit the network at " + words):
        load_state(layer, {name: tensor for name, tensor in state.items() if tensor is not None}, Path("file.pt"))
    assert all(torch.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))
