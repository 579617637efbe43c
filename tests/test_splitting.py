"""deep_plug_and_play as a method of a profile: its base, its key, its training and its account."""

import json

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from lorun.accounting.account import account
from lorun.config import load_profile
from lorun.errors import LorunError
from lorun.evaluation.reconstruct import evaluate, load_system
from lorun.system import build_system
from lorun.training.loop import train
from lorun.unfolding import initial_reconstruction

CPU = torch.device("cpu")


@pytest.fixture
def profile_file(tasks_profile, tiny_profile_file):
    """`tasks_profile` with the method in `cs`, and with its denoiser, of the setting `map` of `denoise`."""
    path = tiny_profile_file.with_name("tasks.yaml")
    said = yaml.safe_load(path.read_text())
    said["tasks"]["denoise"]["settings"]["map"] = {"noise_range": [0, 50], "noise_map": True}
    task = said["tasks"]["cs"]
    task |= {"denoiser_setting": "map", "splitting": {"iterations": 4, "weight": 0.5}}
    task["strategies"].append("deep_plug_and_play")
    path.write_text(yaml.safe_dump(said, sort_keys=False))
    return path


@pytest.fixture
def profile(profile_file):
    return load_profile(profile_file)


def edited(path, edit):
    said = yaml.safe_load(path.read_text())
    edit(said["tasks"])
    path.write_text(yaml.safe_dump(said))
    return load_profile(path)


def test_it_starts_from_the_whole_training_of_a_denoiser_that_is_told_the_level(profile):
    for setting in ("r25", "gray"):
        experiment = profile.experiment("cs", setting, "deep_plug_and_play", 0)
        assert experiment.pretraining.folder == profile.experiment("denoise", "map", "block1", 0).folder
        assert experiment.pretraining.last_step == 10
        assert experiment.stages == 4
        assert experiment.trained_on == ["other", "tiny"]


def test_what_others_have_stays_as_it_was(tasks_profile, profile):
    for before in tasks_profile.experiments():
        after = profile.experiment(before.task, before.setting, before.method, before.seed)
        assert (after.key, after.account_key, after.config_hash) == (
            before.key,
            before.account_key,
            before.config_hash,
        )


def _touch(part, **said):
    return lambda task: task[part].update(said)


@pytest.mark.parametrize(
    ("task", "edit", "touches"),
    [
        ("denoise", _touch("training", steps=11), True),
        ("denoise", _touch("training", learning_rates={"block1": 1e-4}), True),
        ("denoise", lambda task: task["settings"]["map"].update(noise_range=[0, 40]), True),
        ("cs", _touch("splitting", weight=0.4), True),
        ("cs", lambda task: task["settings"]["r25"].update(ratio=30), True),
        ("denoise", _touch("training", phase1_steps=7), False),
        ("denoise", lambda task: task["settings"]["gray"].update(noise_range=[0, 40]), False),
        ("cs", _touch("training", steps=9, learning_rate=1e-4), False),
        ("cs", _touch("unfolding", stages=5), False),
        ("cs", lambda task: task.update(lora={"gamma": 20}), False),
    ],
)
def test_its_key_holds_what_shapes_it_and_nothing_else(profile, profile_file, task, edit, touches):
    before = profile.experiment("cs", "r25", "deep_plug_and_play", 0)
    after = edited(profile_file, lambda tasks: edit(tasks[task])).experiment("cs", "r25", "deep_plug_and_play", 0)
    assert (after.key != before.key) == touches
    if touches:
        assert after.config_hash != before.config_hash


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda tasks: tasks["cs"].pop("denoiser_setting"), "needs a `base_task` and a `denoiser_setting` of that"),
        (lambda tasks: tasks["cs"].update(denoiser_setting="mop"), "no setting `denoiser_setting` (='mop'): gray, map"),
        (
            lambda tasks: tasks["cs"].update(denoiser_setting="gray"),
            "the denoiser of `denoiser_setting` (='gray') is not told the noise level",
        ),
        (
            lambda tasks: tasks["cs"].update(base_setting="map"),
            "the denoiser of `base_setting` (='map') is told the noise level; it must be one with `noise_map: false`",
        ),
        (
            lambda tasks: tasks["denoise"].update(strategies=["shared"]),
            "has no `block1` in `denoiser_setting` (='map')",
        ),
        (
            lambda tasks: tasks["cs"]["strategies"].remove("deep_plug_and_play"),
            "`denoiser_setting` is for the strategy",
        ),
        (lambda tasks: tasks["denoise"].update(splitting={"weight": 1}), "`splitting` is for the strategy"),
        (
            lambda tasks: tasks["cs"]["splitting"].update(wieght=1),
            "`tasks.cs.splitting.wieght`. Did you mean `weight`?",
        ),
        (lambda tasks: tasks["cs"]["splitting"].update(weight=0), "(=0): Input should be greater than 0"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(profile_file, edit, message):
    with pytest.raises(LorunError) as error:
        edited(profile_file, edit)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_other_base_may_be_left_out(profile_file):
    def alone(tasks):
        del tasks["cs"]["base_setting"]
        tasks["cs"]["strategies"] = ["deep_plug_and_play"]

    assert edited(profile_file, alone).experiment("cs", "r25", "deep_plug_and_play", 0).base.setting == "map"


@pytest.fixture
def done(profile, tasks_data, tmp_path):
    """The folder of runs, with the denoiser trained and the method's own run."""
    runs = tmp_path / "runs"
    for place in (("denoise", "map", "block1"), ("cs", "r25", "deep_plug_and_play")):
        train(profile.experiment(*place, 0), runs=runs, data=tasks_data, device=CPU)
    return runs


def test_nothing_is_trained_and_the_steps_are_those_of_the_denoiser(profile, done, tasks_data):
    experiment = profile.experiment("cs", "r25", "deep_plug_and_play", 0)
    outcome = json.loads((done / experiment.folder / "training.json").read_text())
    assert (outcome["status"], outcome["steps"], outcome["total_steps"]) == ("completed", 0, 10)
    assert {part.split("=")[0] for part in outcome["provenance"]["data_md5"].split()} == {"other", "tiny"}
    assert (outcome["recompute"], outcome["curve"]) == (None, [])
    ours, base = (load_file(done / one.folder / "weights.safetensors") for one in (experiment, experiment.pretraining))
    denoiser = {name for name in ours if name.startswith("network.")}
    assert denoiser == set(base) - {"network.step_sizes"}
    assert all(torch.equal(ours[name], base[name]) for name in denoiser)
    assert any(name.startswith("physics.") for name in ours)  # the operator of cs, fitted


def test_a_saved_run_is_scored_alike_each_time(profile, done, tasks_data):
    experiment = profile.experiment("cs", "r25", "deep_plug_and_play", 0)
    first, second = (evaluate(experiment, runs=done, data=tasks_data, device=CPU) for _ in range(2))
    assert [row["value"] for row in first] == [row["value"] for row in second]
    assert all(np.isfinite(row["value"]) and row["steps"] == 10 for row in first)
    system = load_system(experiment, done)
    y = system.physics(torch.rand(1, 1, 16, 16))
    assert not torch.equal(system.network(y, system.physics), initial_reconstruction(y, system.physics))


def test_a_run_that_is_made_again_has_the_same_bytes(profile, done, tasks_data, tmp_path):
    again = tmp_path / "again"
    for place in (("denoise", "map", "block1"), ("cs", "r25", "deep_plug_and_play")):
        experiment = profile.experiment(*place, 0)
        train(experiment, runs=again, data=tasks_data, device=CPU)
        file = experiment.folder / "weights.safetensors"
        assert (again / file).read_bytes() == (done / file).read_bytes()


def test_a_denoiser_that_is_missing_is_named_with_its_method_setting_and_task(profile, tasks_data, tmp_path):
    train(profile.experiment("denoise", "gray", "block1", 0), runs=tmp_path, data=tasks_data, device=CPU)  # of no use
    with pytest.raises(LorunError, match="train the method 'block1' in the setting 'map' of the task 'denoise'"):
        train(profile.experiment("cs", "r25", "deep_plug_and_play", 0), runs=tmp_path, data=tasks_data, device=CPU)


def test_its_account_is_of_the_base_and_of_so_many_denoisings(profile):
    experiment = profile.experiment("cs", "r25", "deep_plug_and_play", 0)
    record = account(experiment, CPU, latency=False)
    told = build_system(profile.experiment("denoise", "map", "block1", 0)).network.denoisers
    assert record["parameters_base"] == record["parameters_network"] == sum(p.numel() for p in told.parameters())
    assert (
        record["parameters_base"]
        > account(profile.experiment("cs", "r25", "frozen", 0), CPU, latency=False)["parameters_base"]
    )
    assert record["parameters_trainable"] == record["parameters_step_sizes"] == 0
    assert record["stages"] == 4
    assert record["step_total"] is record["kept_total"] is record["step_precision"] is None
    assert record["inference_total"] > 0
    once = account(profile.experiment("denoise", "map", "block1", 0), CPU, latency=False)["flops"]
    assert record["flops"] > 4 * once > 0
    again = edited_iterations(experiment, 8)
    assert account(again, CPU, latency=False)["flops"] - record["flops"] >= 4 * once


def edited_iterations(experiment, iterations):
    said = experiment.splitting.model_copy(update={"iterations": iterations})
    return experiment.model_copy(update={"splitting": said})
