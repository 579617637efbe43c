"""deep_plug_and_play: half-quadratic splitting with a pretrained denoiser."""

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from lorun import plugins
from lorun.accounting.account import account
from lorun.errors import LorunError
from lorun.evaluation.reconstruct import evaluate, load_system
from lorun.physics.block_cs import BlockCS
from lorun.physics.blur_downsample import BlurDownsampleConfig
from lorun.physics.cassi import CASSIConfig
from lorun.profiles import load_profile
from lorun.system import build_system
from lorun.training.loop import train
from lorun.training.outcome import read_outcome
from lorun.unfolding import UnfoldingNetwork, initial_reconstruction

CPU = torch.device("cpu")
F64 = torch.float64


class Recorder(nn.Module):
    """z times a number; remembers the noise levels that it gets."""

    def __init__(self, gain=1.0):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain, dtype=F64))
        self.levels = []

    def forward(self, z, sigma):
        self.levels.append(sigma)
        return self.gain * z


def splitting(gain=1.0, physics=None, noise_map=True, **options):
    base = UnfoldingNetwork(lambda _: Recorder(gain), 1, noise_map=noise_map)
    return plugins.build("deep_plug_and_play", physics or blur(), 1, options, base)


def levels(noise, **options):
    """Noise levels of all steps in grey levels, (step, image), for the noise of each image."""
    found = splitting(**options).noise_levels(torch.tensor(noise, dtype=F64).view(-1, 1, 1, 1) / 255)
    return 255 * torch.stack([level.flatten() for level in found])


def image(*shape, seed=0):
    return torch.rand(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def blur(**options):
    options = {"scale": 2, "width": 0.8, "modcrop": None, **options}
    return BlurDownsampleConfig(**options).build(F64)


# The levels


@pytest.mark.parametrize(
    ("noise", "options", "expected"),
    [
        ([0.0], {"iterations": 5, "first": 48, "last": 3}, [[48], [24], [12], [6], [3]]),
        ([1.0, 12.0, 60.0], {"iterations": 3, "first": 48, "last": 3}, [[48, 48, 60], [12, 24, 60], [3, 12, 60]]),
        ([0.0], {"iterations": 1, "first": 48, "last": 3}, [[48]]),
    ],
    ids=["geometric", "down to the noise of each measurement", "one step"],
)
def test_noise_levels(noise, options, expected):
    torch.testing.assert_close(levels(noise, **options), torch.tensor(expected, dtype=F64))


# The steps


def test_the_steps_are_those_of_the_definition():
    physics = blur(noise=7.65).at(8, 6)
    n = 48
    a = physics.A(torch.eye(n, dtype=F64).reshape(n, 1, 8, 6)).flatten(1).T  # (m, n)
    y = image(1, 1, 4, 3)
    network = splitting(0.9, iterations=3, weight=0.4, first=40.0, last=5.0, least_noise=0.5)
    found = network(y, physics)
    expected = [40.0, (40 * 7.65) ** 0.5, 7.65]  # not below the noise
    z = initial_reconstruction(y, physics).flatten()
    for sigma in expected:
        alpha = 0.4 * (7.65 / sigma) ** 2
        z = 0.9 * torch.linalg.solve(a.T @ a + alpha * torch.eye(n), a.T @ y.flatten() + alpha * z)
    torch.testing.assert_close(found.flatten(), z)
    assert [255 * level.item() for level in network.denoisers[0].levels] == pytest.approx(expected)


def test_the_assumed_noise_stands_in_where_there_is_none():
    network = splitting(0.9, iterations=2, last=4.0, least_noise=0.3)
    quiet, noisy = blur().at(8, 8), blur(noise=0.3).at(8, 8)
    y = image(1, 1, 4, 4)
    assert torch.equal(network(y, quiet), network(y, noisy))
    assert not torch.equal(network(y, quiet), network(y, blur(noise=8).at(8, 8)))


@pytest.mark.parametrize(
    ("physics", "size", "channels"),
    [
        (blur(), (8, 6), 3),
        (blur(scale=1, initial="adjoint"), (7, 9), 1),
        (BlockCS(image(4, 16) - 0.5, initial="adjoint", dtype=F64), (8, 4), 1),
        (CASSIConfig(bands=3, mask_side=8, initial="adjoint").build(F64), (6, 5), 3),
    ],
    ids=["super-resolution", "deblurring", "compressed sensing", "CASSI"],
)
def test_with_a_denoiser_that_changes_nothing_it_ends_at_the_nearest_image_that_explains_the_measurement(
    physics, size, channels
):
    physics = physics.at(*size)
    x = image(1, channels, *size)
    y = physics.A(x)
    start = initial_reconstruction(y, physics)
    n = x.numel()
    a = physics.A(torch.eye(n, dtype=F64).reshape(n, channels, *size)).flatten(1).T  # (m, n)
    expected = start.flatten() + torch.linalg.pinv(a) @ (y - physics.A(start)).flatten()
    found = splitting(iterations=40, weight=1e-3)(y, physics)
    torch.testing.assert_close(found.flatten(), expected, rtol=0, atol=1e-5)
    assert (start.flatten() - expected).abs().max() > 1e-2


def test_each_image_of_a_batch_is_restored_as_it_is_alone():
    physics = blur(noise=5).at(8, 8)
    y = image(3, 1, 4, 4)
    network = splitting(0.9)
    together = network(y, physics)
    for one in range(3):
        torch.testing.assert_close(together[one : one + 1], network(y[one : one + 1], physics))


def test_shot_noise_is_refused():
    physics = CASSIConfig(bands=3, mask_side=8, noise="shot").build(F64).at(6, 5)
    with pytest.raises(LorunError, match="shot noise has no single level"):
        splitting()(image(1, 1, 6, 9), physics)


def test_a_base_without_a_noise_level_input_is_refused():
    with pytest.raises(LorunError, match="base of deep_plug_and_play needs a noise level input: train it in a setting"):
        splitting(noise_map=False)


def test_it_takes_the_denoiser_of_a_trained_base():
    network = splitting()
    network.load_base({"denoisers.0.gain": torch.tensor(0.3, dtype=F64), "step_sizes": torch.ones(1)}, step_size=False)
    assert network.denoisers[0].gain == 0.3
    assert not any(parameter.requires_grad for parameter in network.parameters())
    with pytest.raises(LorunError, match="the base does not fit at `gain`"):
        network.load_base({})


@pytest.mark.parametrize(
    ("options", "message"), [({"wieght": 1}, "unknown key `wieght`. Did you mean `weight`"), ({"weight": 0}, r"\(=0\)")]
)
def test_wrong_options(options, message):
    with pytest.raises(LorunError, match=message):
        plugins.check_options("deep_plug_and_play", options)


# In a profile


BASE = {"task": "denoise", "setting": "gray_map", "method": "block1"}


@pytest.fixture
def profile_file(tasks_profile, tiny_profile_file):
    """`tasks_profile` with the method in `cs`, and a setting `gray_map` of `denoise` that trains its base."""
    path = tiny_profile_file.with_name("tasks.yaml")
    content = yaml.safe_load(path.read_text())
    content["tasks"]["denoise"]["settings"]["gray_map"] = {"noise_range": [0, 50], "noise_map": True}
    task = content["tasks"]["cs"]
    task["baselines"].append("deep_plug_and_play")
    task["base"]["deep_plug_and_play"] = BASE
    task["options"] = {"deep_plug_and_play": {"iterations": 4, "weight": 0.5}}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def edited(path, edit):
    content = yaml.safe_load(path.read_text())
    edit(content["tasks"])
    path.write_text(yaml.safe_dump(content))
    return load_profile(path)


def ours(profile, setting="r25"):
    return profile.experiment("cs", setting, "deep_plug_and_play", 0)


def test_it_starts_from_the_whole_training_of_the_base(profile_file):
    profile = load_profile(profile_file)
    trained = profile.experiment("denoise", "gray_map", "block1", 0)
    for setting in ("r25", "gray"):
        experiment = ours(profile, setting)
        assert experiment.base == trained
        assert (experiment.training, experiment.base.training.steps) == (None, 10)
        assert experiment.trained_on == ["other", "tiny"]


def test_other_methods_keep_their_keys(tasks_profile, profile_file):
    profile = load_profile(profile_file)
    for before in tasks_profile.experiments():
        after = profile.experiment(before.task, before.setting, before.method, before.seed)
        assert (after.key, after.account_key, after.config_hash) == (
            before.key,
            before.account_key,
            before.config_hash,
        )


def update(part, **changes):
    return lambda task: task[part].update(changes)


@pytest.mark.parametrize(
    ("task", "edit", "changes"),
    [
        ("denoise", update("training", steps=11), True),
        ("denoise", update("training", learning_rates={"block1": 1e-4}), True),
        ("denoise", lambda task: task["settings"]["gray_map"].update(noise_range=[0, 40]), True),
        ("cs", lambda task: task["options"]["deep_plug_and_play"].update(weight=0.4), True),
        ("cs", lambda task: task["base"]["deep_plug_and_play"].update(method="pretrain"), True),
        ("cs", lambda task: task["settings"]["r25"].update(ratio=30), True),
        ("denoise", update("training", phase1_steps=7), False),
        ("denoise", lambda task: task["settings"]["gray"].update(noise_range=[0, 40]), False),
        ("cs", update("training", steps=9, learning_rate=1e-4), False),
        ("cs", update("unfolding", stages=5), False),
        ("cs", lambda task: task.update(lora={"gamma": 20}), False),
    ],
)
def test_its_key_depends_on_options_operator_and_base_alone(profile_file, task, edit, changes):
    before, after = ours(load_profile(profile_file)), ours(edited(profile_file, lambda tasks: edit(tasks[task])))
    assert (after.key != before.key) == changes
    assert (after.config_hash != before.config_hash) == changes


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda cs: cs["base"]["deep_plug_and_play"].update(setting="mop"),
            "`base` of `deep_plug_and_play`: unknown setting 'mop'",
        ),
        (
            lambda cs: cs["base"]["deep_plug_and_play"].update(method="shared"),
            "`base` of `deep_plug_and_play`: unknown method 'shared'",
        ),
        (
            lambda cs: cs["baselines"].remove("deep_plug_and_play"),
            "`base`: unknown method 'deep_plug_and_play'",
        ),
        (
            lambda cs: cs["options"]["deep_plug_and_play"].update(wieght=1),
            "unknown key `wieght`. Did you mean `weight`?",
        ),
        (lambda cs: cs["options"]["deep_plug_and_play"].update(weight=0), "(=0): Input should be greater than 0"),
    ],
)
def test_a_mistake_in_a_profile_is_one_line(profile_file, edit, message):
    with pytest.raises(LorunError) as error:
        edited(profile_file, lambda tasks: edit(tasks["cs"]))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda cs: cs["base"].pop("deep_plug_and_play"), "baseline deep_plug_and_play needs a pretrained base"),
        (
            lambda cs: cs["base"]["deep_plug_and_play"].update(setting="gray"),
            "the base of deep_plug_and_play needs a noise level input",
        ),
    ],
)
def test_a_base_that_does_not_fit_is_refused(profile_file, edit, message):
    with pytest.raises(LorunError, match=message):
        build_system(ours(edited(profile_file, lambda tasks: edit(tasks["cs"]))))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("deep_plug_and_play")


@pytest.fixture
def done(profile_file, runs, tasks_data):
    """The experiment; the folder of runs holds its base and its own run, each made once for the module."""
    experiment = ours(load_profile(profile_file))
    for one in (experiment.base, experiment):
        train(one, runs=runs, data=tasks_data, device=CPU)
    return experiment


def test_nothing_is_trained_and_the_weights_are_those_of_the_base(done, runs):
    outcome = read_outcome(runs / done.folder)
    assert (outcome.status, outcome.steps, outcome.total_steps) == ("completed", 0, 10)
    assert {part.split("=")[0] for part in outcome.provenance["data_md5"].split()} == {"other", "tiny"}
    assert {"baselines/deep_plug_and_play/baseline.py", "lorun/physics/denoising.py"} <= set(outcome.code)
    held, base = (load_file(runs / one.folder / "weights.safetensors") for one in (done, done.base))
    denoiser = {name for name in held if name.startswith("network.")}
    assert denoiser == set(base) - {"network.step_sizes"}
    assert all(torch.equal(held[name], base[name]) for name in denoiser)
    assert any(name.startswith("physics.") for name in held)  # the operator of cs, fitted


def test_a_run_is_scored_the_same_each_time(done, runs, tasks_data):
    first, second = (evaluate(done, runs=runs, data=tasks_data, device=CPU) for _ in range(2))
    assert first.rows == second.rows
    assert first.run["steps"] == 10
    assert all(np.isfinite(row["value"]) for row in first.rows)
    system = load_system(done, runs)
    y = system.physics(torch.rand(1, 1, 16, 16))
    assert not torch.equal(system.network(y, system.physics), initial_reconstruction(y, system.physics))


def test_a_missing_base_is_named(profile_file, tasks_data, tmp_path):
    experiment = ours(load_profile(profile_file))
    message = "train the method 'block1' in the setting 'gray_map' of the task 'denoise'"
    with pytest.raises(LorunError, match=message):
        train(experiment, runs=tmp_path, data=tasks_data, device=CPU)


def test_its_account_is_of_the_base_and_as_many_denoisings(profile_file):
    def record(experiment):
        return account(experiment, CPU, latency=False)

    experiment = ours(load_profile(profile_file))
    longer = ours(edited(profile_file, lambda tasks: tasks["cs"]["options"]["deep_plug_and_play"].update(iterations=8)))
    counted, base = record(experiment), record(experiment.base)
    denoiser = sum(p.numel() for p in build_system(experiment.base).network.denoisers.parameters())
    assert counted["parameters_base"] == counted["parameters_network"] == denoiser
    assert counted["parameters_trainable"] == counted["parameters_step_sizes"] == 0
    assert counted["stages"] == 4
    assert counted["step_total"] is counted["kept_total"] is counted["step_precision"] is None
    assert counted["inference_total"] > 0
    assert counted["flops"] > 4 * base["flops"] > 0
    assert record(longer)["flops"] - counted["flops"] >= 4 * base["flops"]
