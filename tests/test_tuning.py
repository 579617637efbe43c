"""Learning rates chosen by rule: the same short trainings for every method, judged on validation images."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lorun import tuning
from lorun.errors import LorunError
from lorun.methods import Experiment
from lorun.plugins.scaffold import write_baseline
from lorun.profiles import Profile, load_profile
from lorun.profiles.trials import Trial, read_trials, trials_path, write_trials
from lorun.training import read_outcome, train
from lorun.training.outcome import Outcome

CPU = torch.device("cpu")
RATES = [1e-4, 1e-2, 1e30]


@pytest.fixture
def tuned(tiny_profile_file: Path, tmp_path: Path) -> Callable[..., Profile]:
    """The tiny profile with tuning: LoRun, and a baseline of a lab, in a folder outside the repository."""
    write_baseline("my_net", tmp_path / "lab")

    def tuned(**training: Any) -> Profile:
        content = yaml.safe_load(tiny_profile_file.read_text())
        task = content["tasks"]["cs"]
        task |= {"strategies": ["block1", "lorun"], "baselines": [str(tmp_path / "lab/my_net"), "linear_mmse"]}
        grids = {"learning_rates": RATES, "adapter_rates": [1, 10, 100]}
        task["training"] |= {
            "clip_norm": None,
            "final_learning_rate": 0,
            "tuning": {**grids, "share": 0.5, "finalists": 1},
            **training,
        }
        tiny_profile_file.write_text(yaml.safe_dump(content))
        return load_profile(tiny_profile_file)

    return tuned


@pytest.fixture
def go(tiny_profile_file: Path, tiny_data: Path, tmp_path: Path) -> Callable[..., list[Trial]]:
    """Tune methods of the profile, one after another, and write the table; return the trials of the last."""

    def go(profile: Profile, *methods: str) -> list[Trial]:
        for method in methods:
            trials = tuning.tune(profile, "cs", method, runs=tmp_path / "runs", data=tiny_data, device=CPU)
            profile.use_trials(tuning.record(trials_path(tiny_profile_file, profile.profile), trials))
        return trials

    return go


def test_every_trained_method_and_pretraining_is_tuned_after_its_base(tuned: Callable[..., Profile]) -> None:
    profile = tuned()
    assert profile.to_tune() == [("cs", name) for name in ("block1", "pretrain", "lorun", "my_net")]
    assert profile.untuned() == profile.to_tune()
    grids = {name: profile.grid("cs", name) for _, name in profile.to_tune()}
    assert grids == {**dict.fromkeys(("block1", "pretrain", "my_net"), RATES), "lorun": [1, 10, 100]}


def test_the_best_on_validation_is_chosen_and_a_divergence_is_an_outcome(
    tuned: Callable[..., Profile], go: Callable[..., list[Trial]], tmp_path: Path, tiny_profile_file: Path
) -> None:
    """A lab's own baseline needs no line of its own."""
    profile = tuned()
    trials = go(profile, "my_net")
    assert [trial.value for trial in trials] == RATES
    assert [trial.status for trial in trials] == ["completed", "completed", "diverged"]
    assert trials[2].validation_psnr is None
    best = max(trials[:2], key=lambda trial: trial.validation_psnr)
    assert [trial for trial in trials if trial.chosen] == [best]
    for trial in trials:
        experiment = profile.trial("cs", "my_net", trial.value)
        outcome = read_outcome(tmp_path / "runs" / experiment.folder)
        assert (trial.run, trial.steps, trial.training_flops) == (experiment.key, outcome.steps, outcome.training_flops)
        assert trial.steps == (2 if trial.status == "diverged" else 4)  # half of eight
        if trial.status == "completed":
            assert trial.validation_psnr == pytest.approx(outcome.curve[-1].validation_psnr, abs=1e-6)
    # What is written is what is used, in this process and in the next.
    again = load_profile(tiny_profile_file)
    for one in (profile, again):
        assert one.chosen("cs", "my_net") == best.value
        assert one.experiment("cs", "r25", "my_net", 0).training.learning_rate == best.value
        assert ("cs", "my_net") not in one.untuned()
        one.check_tuned("cs", "my_net")
    assert read_trials(trials_path(tiny_profile_file, "tiny")) == trials


def test_lorun_is_tuned_on_the_base_of_the_rate_that_was_chosen_for_it(
    tuned: Callable[..., Profile], go: Callable[..., list[Trial]]
) -> None:
    profile = tuned()
    with pytest.raises(LorunError, match="cs: 'pretrain' is not tuned"):
        go(profile, "lorun")
    [chosen] = [trial for trial in go(profile, "pretrain") if trial.chosen]
    trials = go(profile, "lorun")
    for trial in trials:
        experiment = profile.trial("cs", "lorun", trial.value)
        assert experiment.base.key == chosen.run
        assert experiment.training.adapters.rate == trial.value
        assert trial.parameter == "adapter_rate"
        assert trial.steps == 2  # half of the four that follow its base, whose cost is not counted again
        assert trial.training_flops == trial.steps * (trials[0].training_flops // 2)
    whole = profile.experiment("cs", "r25", "lorun", 0)
    assert whole.training.adapters.rate == next(trial.value for trial in trials if trial.chosen)
    assert whole.base.training.learning_rate == chosen.value


def test_the_best_short_training_and_the_next_lower_one_are_repeated_whole(
    tuned: Callable[..., Profile], go: Callable[..., list[Trial]], tmp_path: Path
) -> None:
    """The whole training of the choice is the run of the first seed: it is paid once."""
    grids = {"learning_rates": [1e-5, 1e-4, 1e-3, 1e30], "adapter_rates": [1, 10, 100, 1000]}
    profile = tuned(tuning={**grids, "share": 0.5, "finalists": 2})
    trials = go(profile, "block1")
    short, whole = [one for one in trials if not one.whole], [one for one in trials if one.whole]
    assert [one.value for one in short] == grids["learning_rates"]
    best = max((one for one in short if one.validation_psnr), key=lambda one: one.validation_psnr)
    place = short.index(best)
    assert [one.value for one in whole] == [one.value for one in short[max(0, place - 1) : place + 1]]
    assert {one.steps for one in short[:3]} == {4}
    assert {one.steps for one in whole} == {8}
    [chosen] = [one for one in trials if one.chosen]
    assert chosen == max(whole, key=lambda one: one.validation_psnr)
    assert profile.experiment("cs", "r25", "block1", 0).key == chosen.run
    assert profile.chosen("cs", "block1") == chosen.value
    profile.use_trials([one for one in trials if one.value != 1e30 or one.whole])  # another grid than the profile's
    assert profile.chosen("cs", "block1") is None


def test_where_no_whole_training_completes_lower_values_follow(
    tuned: Callable[..., Profile], go: Callable[..., list[Trial]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short trainings survive rates at which whole ones diverge."""

    def train(experiment: Experiment, **where: Any) -> Outcome:
        outcome, rate = real_train(experiment, **where), experiment.training.learning_rate
        if outcome.steps == 8:
            return outcome.model_copy(update={"status": "diverged"}) if rate > 1e-5 else outcome
        point = outcome.curve[-1].model_copy(update={"validation_psnr": 20 + rate})
        return outcome.model_copy(update={"curve": [point]})

    real_train = tuning.train
    monkeypatch.setattr(tuning, "train", train)
    profile = tuned(
        tuning={"learning_rates": [1e-6, 1e-5, 1e-4, 1e-3], "adapter_rates": [1, 10, 100, 1000], "share": 0.5}
    )  # the highest rate has the best short training
    trials = go(profile, "block1")
    assert [trial.value for trial in trials if trial.whole] == [1e-5, 1e-4, 1e-3]
    assert [trial.value for trial in trials if trial.chosen] == [1e-5] == [profile.chosen("cs", "block1")]


def made_up(method: str, value: float, chosen: bool) -> Trial:
    numbers = {"validation_psnr": 20.0, "steps": 4, "training_flops": 10}
    names = {"task": "cs", "setting": "r25", "method": method, "parameter": "learning_rate", "run": "0" * 10}
    return Trial(**names, **numbers, value=value, whole=False, status="completed", chosen=chosen)


def test_no_rate_that_works_is_an_error(tuned: Callable[..., Profile], go: Callable[..., list[Trial]]) -> None:
    profile = tuned(tuning={"learning_rates": [1e28, 1e29, 1e30], "adapter_rates": [1, 10, 100]})
    with pytest.raises(
        LorunError, match=r"no training of 'block1' completed with learning_rate 1e\+28, 1e\+29, 1e\+30"
    ):
        go(profile, "block1")


def test_a_choice_holds_for_its_configuration_alone(
    tuned: Callable[..., Profile], go: Callable[..., list[Trial]], tiny_profile_file: Path, tmp_path: Path
) -> None:
    go(tuned(), "block1", "my_net")
    assert tuned().untuned() == [("cs", "pretrain"), ("cs", "lorun")]
    network = tmp_path / "lab/my_net/baseline.py"
    network.write_text(network.read_text() + "\nANOTHER = 1\n")
    assert ("cs", "my_net") in tuned().untuned()
    assert ("cs", "block1") in tuned(batch=3).untuned()
    with pytest.raises(LorunError, match="'block1' is not tuned, or was tuned for another configuration: run `lorun t"):
        tuned().check_tuned("cs", "block1")


def test_an_interrupted_tuning_goes_on(
    tuned: Callable[..., Profile], go: Callable[..., list[Trial]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile, trained = tuned(), []

    def stop_at(number: int) -> Callable[..., Any]:
        def one(experiment: Any, **places: Any) -> Any:
            if len(trained) == number:
                raise KeyboardInterrupt
            trained.append(experiment.key)
            return train(experiment, **places)

        return one

    monkeypatch.setattr(tuning, "train", stop_at(2))
    with pytest.raises(KeyboardInterrupt):
        go(profile, "block1")
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("training.json")}
    assert len(files) == 2
    assert profile.chosen("cs", "block1") is None
    monkeypatch.setattr(tuning, "train", stop_at(99))
    trials = go(profile, "block1")
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert len(list((tmp_path / "runs").rglob("training.json"))) == len(trials) == 3


def test_processes_that_record_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tuned/tiny.csv"
    methods = [f"m{number}" for number in range(24)]
    all_trials = [[made_up(method, value, value == 1) for value in range(3)] for method in methods]
    with ProcessPoolExecutor(4, get_context("fork")) as pool:
        list(pool.map(tuning.record, [path] * len(methods), all_trials))
    found = read_trials(path)
    assert sorted(found, key=str) == sorted((trial for trials in all_trials for trial in trials), key=str)
    assert [trial.method for trial in found] == sorted(trial.method for trial in found)
    tuning.record(path, [made_up("m3", 7, True)])  # instead of its former ones
    assert [trial.value for trial in read_trials(path) if trial.method == "m3"] == [7]
    assert len(read_trials(path)) == 3 * 23 + 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-5],
        lambda text: text.replace("completed", ""),
        lambda text: text.replace("validation_psnr", "psnr"),
        lambda text: text.replace("20.0", "twenty"),
        lambda text: "\x00" + text,
        lambda text: text + "cs,r25\n",
    ],
)
def test_a_damaged_table_is_one_line(
    tuned: Callable[..., Profile], tiny_profile_file: Path, damage: Callable[[str], str]
) -> None:
    path = trials_path(tiny_profile_file, "tiny")
    write_trials(path, [made_up("block1", 1, True)])
    path.write_text(damage(path.read_text()))
    with pytest.raises(LorunError) as error:
        tuned()
    assert str(error.value).startswith(f"{path}: damaged; restore it from git, or tune again")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adapter_rates": [1, 2]}, "adapter_rates`: List should have at least 3 items"),
        ({"adapter_rates": [1, 2, 3, 4]}, "3 `learning_rates` and 4 `adapter_rates`: give the same number"),
        ({"learning_rates": [1e-3, 1e-4, 1e-2]}, "`learning_rates` (=[0.001, 0.0001, 0.01]) must increase"),
        ({"learning_rates": [1e-3, 0, 1e-2]}, "(=0): Input should be greater than 0"),
        ({"share": 1.5}, "(=1.5)"),
        ({"grid": []}, "unknown key"),
    ],
)
def test_a_mistake_in_a_grid_is_refused(tuned: Callable[..., Profile], change: dict[str, Any], message: str) -> None:
    grids = {"learning_rates": RATES, "adapter_rates": [1, 10, 100]}
    with pytest.raises(LorunError) as error:
        tuned(tuning=grids | change)
    assert message in str(error.value)


def test_rates_by_hand_and_by_rule_exclude_each_other(tuned: Callable[..., Profile]) -> None:
    with pytest.raises(LorunError, match="`learning_rates` are for trainings without `tuning`"):
        tuned(learning_rates={"block1": 1e-3})
