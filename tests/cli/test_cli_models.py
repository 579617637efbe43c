"""`lorun models`: a model of a finished run, the list, and its scores again."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from output import Output

from lorun.evaluation.reconstruct import evaluate
from lorun.models import from_pretrained
from lorun.models.model import models_in
from lorun.profiles import Profile
from lorun.results.store import write_evaluation
from lorun.training import train

RUN = ["models", "save", "--task", "cs", "--setting", "r25", "--method", "shared"]


@pytest.fixture
def save(tmp_path: Path, tiny_profile: Profile, tiny_profile_file: Path, tiny_data: Path) -> list[object]:
    """A command that saves a model of a finished run in the working directory."""
    import torch

    experiment, runs, cpu = tiny_profile.experiment("cs", "r25", "shared", 0), tmp_path / "runs", torch.device("cpu")
    train(experiment, runs=runs, data=tiny_data, device=cpu)
    scored = evaluate(experiment, runs=runs, data=tiny_data, device=cpu)
    write_evaluation(runs / experiment.folder / "evaluation.csv", *scored)
    return [*RUN, "-c", tiny_profile_file, "--data", tiny_data, "--device", "cpu"]


def test_save_list_and_score(
    lorun: Callable[..., Output],
    error: Callable[..., str],
    save: list[object],
    tiny_data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved = lorun(*save)
    assert (saved.status, saved.err) == (0, "")
    assert re.fullmatch(r"cs/r25/shared seed 0: float32, \d\.\d\d MB: models/cs-r25-shared\n", saved.out)
    assert error(*save) == "models/cs-r25-shared: exists; choose another name with --name, or replace it with --force"
    monkeypatch.setattr("lorun.models.making.HALF_TOLERANCE", 1)
    halved = lorun(*save, "--name", "half", "--half")
    assert halved.out.startswith("cs/r25/shared seed 0: float16, ")
    assert list(models_in(Path("models"))) == ["cs-r25-shared", "half"]
    assert from_pretrained("models/half").description.precision == "float16"
    listed = lorun("models", "list").out.splitlines()
    assert listed[0].split() == ["name", "method", "operator", "MB", "score"]
    [half] = [line for line in listed if line.startswith("half ")]
    assert re.fullmatch(
        r"half +shared +ratio 25 %, Phi fixed_gaussian_8 +\d\.\d\d +PSNR \(dB\) \d+\.\d\d on tiny", half
    )
    scored = lorun("models", "score", "models/cs-r25-shared", "--data", tiny_data, "--device", "cpu")
    lines = [line.split() for line in scored.out.splitlines()]
    assert lines[0] == ["test", "set", "protocol", "metric", "committed", "here", "difference"]
    assert lines[1][:3] == ["tiny", "cs_float_y", "psnr"]
    assert all(abs(float(line[-1])) < 1e-3 for line in lines[1:])


def test_mistakes(error: Callable[..., str], save: list[object], tiny_data: Path) -> None:
    assert error(*save, "--name", "../mine").startswith("a model cannot be called '../mine': use letters")
    assert error(*save, "--method", "block_k").startswith("cs/r25/block_k seed 0 is not trained (runs/cs/r25/block_k")
    assert error("models", "score", "elsewhere/mine/x") == (
        "elsewhere/mine/x: no such model: give a name (`lorun models list`), a folder, or OWNER/NAME on the Hub"
    )
    assert not Path("models").exists()
