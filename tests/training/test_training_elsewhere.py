"""One training for all settings of a task: `train_in`."""

from pathlib import Path

import pytest
import torch
import yaml
from tiny import SR_PROFILE

from lorun.errors import LorunError
from lorun.profiles import Profile, load_profile
from lorun.system import build_system
from lorun.training import train
from lorun.training.outcome import WEIGHTS
from lorun.training.weights import load_state, load_weights

CPU = torch.device("cpu")


def make_profile(folder: Path, train_in: str | None = "x2", **changes: object) -> Profile:
    task = {**SR_PROFILE["tasks"]["sr"], "settings": {"x2": {"scale": 2}, "x3": {"scale": 3}}, **changes}
    task["physics"] = {**task["physics"], "training_scales": [2, 3], "kernels_file": "data/blurs/blurs.npy"}
    task["training"] = {**task["training"], "patch": 18}
    task["baselines"] = ["tikhonov", "usrnet_tiny"]
    if train_in is not None:
        task["train_in"] = train_in
    path = folder / "several.yaml"
    path.write_text(yaml.safe_dump({**SR_PROFILE, "profile": "several", "tasks": {"sr": task}}))
    return load_profile(path)


def test_another_setting_takes_the_weights_of_the_one_that_trains(
    sr_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = make_profile(tmp_path)
    monkeypatch.chdir(sr_project)
    x2, x3 = (profile.experiment("sr", setting, "lorun", 0) for setting in ("x2", "x3"))
    assert x3.trained_as == x2
    assert x3.key != x2.key
    places = {"runs": tmp_path / "runs", "data": sr_project / "data", "device": CPU}
    with pytest.raises(LorunError, match="train the method 'lorun' in the setting 'x2' with the same seed first"):
        train(x3, **places)
    train(x2.base, **places)
    whole = train(x2, **places)
    taken = train(x3, **places)
    assert (taken.total_steps, taken.training_flops) == (whole.total_steps, whole.training_flops)
    assert (taken.steps, taken.curve) == (0, [])
    networks = []
    for experiment in (x2, x3):
        system = build_system(experiment)
        path = tmp_path / "runs" / experiment.folder / WEIGHTS
        load_state(system, load_weights(path), path)
        networks.append(system.network.state_dict())
        assert system.physics.scale == experiment.physics.scale
    assert networks[0].keys() == networks[1].keys()
    assert all(torch.equal(value, networks[1][name]) for name, value in networks[0].items())


def test_only_what_is_trained_is_taken_and_only_the_setting_that_trains_is_tuned(tmp_path: Path) -> None:
    training = {"budget": 1e9, "batch": 2, "patch": 18, "tuning": {}}
    profile = make_profile(tmp_path, training=training)
    taken = {(one.setting, one.method) for one in profile.experiments() if one.trained_as is not None}
    assert taken == {("x3", "block1"), ("x3", "lorun"), ("x3", "usrnet_tiny")}
    assert profile.to_tune() == [("sr", name) for name in ("block1", "pretrain", "lorun", "usrnet_tiny")]
    assert {profile.trial("sr", name, 1.0).setting for _, name in profile.to_tune()} == {"x2"}


def test_the_setting_must_be_one_of_the_task(tmp_path: Path) -> None:
    with pytest.raises(LorunError, match="unknown setting 'x4'. Choices: x2, x3"):
        make_profile(tmp_path, "x4")


def test_without_it_each_setting_trains(tmp_path: Path) -> None:
    assert all(one.trained_as is None for one in make_profile(tmp_path, None).experiments())
