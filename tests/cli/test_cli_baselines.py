"""`lorun new` and `lorun contract`, and baselines from elsewhere on the command line."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from output import Output
from PIL import Image

from lorun import plugins
from lorun.results.store import read_evaluation


def test_a_new_baseline_keeps_the_contract_at_once(lorun: Callable[..., Output]) -> None:
    result = lorun("new", "baseline", "my_net", "--into", "nets")
    assert (result.status, result.err) == (0, "")
    assert "lorun contract nets/my_net\n" in result.out
    assert sorted(path.name for path in Path("nets/my_net").iterdir()) == ["baseline.py", "card.yaml"]
    assert "CHANGE" in Path("nets/my_net/baseline.py").read_text()
    result = lorun("contract", "nets/my_net")
    assert (result.status, result.err) == (0, "")
    assert re.match(r"nets/my_net: \d+ passed, 1 -; \d+ s\n", result.out)
    rows = {line.split()[0]: line.split()[1:] for line in result.out.splitlines()[1:]}
    assert rows["shapes"] == ["passed"] * 6  # every operator, all channels
    assert rows["overfitting"] == ["passed"] * 4
    assert rows["published_parameters"] == ["-"]


def test_a_failed_check_is_explained_and_sets_the_exit_status(lorun: Callable[..., Output]) -> None:
    lorun("new", "baseline", "my_net", "--into", ".")
    network = Path("my_net/baseline.py")
    network.write_text(network.read_text().replace("return x\n", "return x[..., 1:]\n"))
    result = lorun("contract", "./my_net")
    assert result.status == 1
    assert result.err == "error: 1 of 1 baselines fail a check: ./my_net\n"
    assert "shapes block_cs-1: images of shape (2, 1, 16, 16) come back as (2, 1, 16, 15)" in result.out
    assert "required: `forward` returns (B, C, H, W) like the image, for any size" in result.out


def test_all_are_checked_without_a_name(lorun: Callable[..., Output], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "names", lambda: ["initial_reconstruction", "linear_mmse"])
    monkeypatch.setattr(plugins, "installed_names", list)
    result = lorun("contract")
    assert result.status == 0
    assert re.findall(r"^(\w+): \d+ passed", result.out, re.M) == ["initial_reconstruction", "linear_mmse"]
    assert "unsupported cassi-4: the initial reconstruction of CASSI is not fitted on images" in result.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["new", "baseline", "ista_net"], "there is a baseline 'ista_net' already"),
        (["new", "baseline", "lorun"], "a baseline cannot be called 'lorun': these methods exist already"),
        (["new", "baseline", "pretrain"], "a baseline cannot be called 'pretrain'"),
        (["new", "baseline", "my-net"], "digits and underscores, such as 'my_net'"),
        (["new", "baseline", "class"], "such as 'my_class'"),
        (
            ["new", "baseline", "taken", "--into", "."],
            "taken exists: choose another name, or another folder",
        ),
        (["contract", "ista_nett"], "unknown baseline 'ista_nett'. Did you mean 'ista_net'?"),
        (["contract", "./taken"], "baseline ./taken: taken/ has no baseline.py and no card.yaml"),
        (["contract", "./nothing"], "baseline ./nothing: no such folder"),
    ],
)
def test_wrong_names_are_one_line(lorun: Callable[..., Output], tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "taken").mkdir()
    before = plugins.names()
    result = lorun(*words)
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith("error: ")
    assert message in result.err
    assert result.err.count("\n") == 1
    assert plugins.names() == before


def test_a_folder_is_scored_without_a_profile(lorun: Callable[..., Output], tmp_path: Path) -> None:
    lorun("new", "baseline", "plain", "--into", "nets")
    network = tmp_path / "nets/plain/baseline.py"
    network.write_text(network.read_text().replace("stages: int = 3", "stages: int = 0"))
    card = network.with_name("card.yaml")
    card.write_text(card.read_text().replace("trained: true", "trained: false"))
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photos/noise.png")
    np.save(tmp_path / "phi.npy", np.eye(64)[:16])
    result = lorun(
        "score", "--method", "nets/plain", "--matrix", "phi.npy", "--initial", "adjoint", "--images", "photos"
    )
    assert result.status == 0, result.err
    run, rows = read_evaluation(tmp_path / "photos.csv")
    assert set(rows.method) == {"plain"}
    assert re.search("plain=.*@nets/plain", run["versions"])
