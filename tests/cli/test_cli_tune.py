"""`lorun tune`."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from output import Output

from lorun.profiles.trials import read_trials


@pytest.fixture
def profile(tiny_profile_file: Path) -> Path:
    """The tiny profile with two methods to tune: block1, and pretrain and lorun."""
    content = yaml.safe_load(tiny_profile_file.read_text())
    task = content["tasks"]["cs"]
    task |= {"strategies": ["block1", "lorun"], "baselines": []}
    grids = {"learning_rates": [1e-5, 1e-3, 1e-2], "adapter_rates": [1, 10, 100]}
    task["training"] |= {"final_learning_rate": 0, "tuning": {**grids, "share": 0.5, "finalists": 1}}
    tiny_profile_file.write_text(yaml.safe_dump(content))
    return tiny_profile_file


def test_what_is_not_tuned_is_not_trained(
    error: Callable[..., str], options: Callable[..., list[object]], profile: Path
) -> None:
    message = error(*options("train", method="lorun"))
    assert message.startswith("cs: 'lorun' is not tuned, or was tuned for another configuration: run `lorun tune`")
    assert not list(Path("runs").rglob("weights.safetensors"))


def test_tuning_prints_the_scores_and_is_done_once(
    lorun: Callable[..., Output], options: Callable[..., list[object]], tiny_data: Path, profile: Path
) -> None:
    words = ("tune", "--config", profile, "--data", tiny_data, "--device", "cpu")
    result = lorun(*words)
    assert result.status == 0
    trials = read_trials(profile.parent / "tuned/tiny.csv")
    assert [trial.method for trial in trials] == ["block1"] * 3 + ["lorun"] * 3 + ["pretrain"] * 3
    assert sum(trial.chosen for trial in trials) == 3
    for trial in trials:
        line = f"{trial.value:g} {trial.steps} {trial.validation_psnr:.2f}" + " chosen" * trial.chosen
        assert line in [" ".join(printed.split()) for printed in result.out.splitlines()]
    best = [trial.value for trial in trials if trial.chosen]
    edges = sum(value in (1e-5, 1e-2, 1, 100) for value in best)
    assert result.out.count("The best value is at the edge of the grid") == edges
    assert lorun(*words).out == f"Nothing to do: {profile.parent / 'tuned/tiny.csv'} has every choice.\n"
    assert lorun(*options("train", method="block1")).status == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--task", "cz"), "unknown task 'cz'. Choices: cs"),
        (("--method", "loran"), "unknown tuned method 'loran'. Did you mean 'lorun'?"),
    ],
)
def test_a_wrong_name_is_one_line(error: Callable[..., str], profile: Path, words: tuple[str, ...], message: str):
    assert error("tune", "--config", profile, *words).startswith(message)


def test_a_profile_without_tuning_has_nothing_to_do(lorun: Callable[..., Output], tiny_profile_file: Path) -> None:
    assert lorun("tune", "--config", tiny_profile_file).out.startswith("Nothing to do")
