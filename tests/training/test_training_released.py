"""Released weights: read as data, renamed, checked key by key, and taken in place of a training."""

import pickle
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file
from tiny import with_spec

from lorun import plugins
from lorun.errors import LorunError
from lorun.physics.block_cs import BinaryBlockCS, BlockCS, gaussian_matrix
from lorun.profiles import load_profile
from lorun.system import System
from lorun.training import train
from lorun.training.released import load_released, read_released, rename

BLOCK = 8
M = 16


def system(method="ista_net"):
    torch.manual_seed(1)
    matrix = gaussian_matrix(M, BLOCK**2, 0)
    if method == "opine_net_plus":
        physics = BinaryBlockCS(matrix, learned=True, initial="adjoint")
    else:
        physics = BlockCS(matrix, initial="adjoint")
    return System(plugins.build(method, physics, 1), physics)


def released(method="ista_net"):
    """A state dict as the authors name its parts, of random weights."""
    ista = {"lambda_step": (1,), "soft_thr": (1,), "conv1_forward": (32, 1, 3, 3), "conv2_forward": (32, 32, 3, 3)}
    ista |= {"conv1_backward": (32, 32, 3, 3), "conv2_backward": (1, 32, 3, 3)}
    inner = dict.fromkeys(("conv1_forward", "conv2_forward", "conv1_backward", "conv2_backward"), (32, 32, 3, 3))
    plus = {**ista, **inner, "conv_D": (32, 1, 3, 3), "conv_G": (1, 32, 3, 3)}
    opine = {**ista, **inner, "conv_D": (32, 1, 3, 3), "conv1_G": (32, 32, 3, 3), "conv2_G": (32, 32, 3, 3)}
    opine["conv3_G"] = (1, 32, 3, 3)
    parts = {"ista_net": ista, "ista_net_plus": plus, "opine_net_plus": opine}[method]
    torch.manual_seed(2)
    state = {f"fcs.{k}.{name}": torch.randn(shape) for k in range(9) for name, shape in parts.items()}
    if method == "opine_net_plus":
        state |= {"Phi": torch.randn(M, BLOCK**2), "Phi_scale": torch.randn(1)}
    return {f"module.{key}": value for key, value in state.items()}


def saved(path: Path, state) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize(
    ("method", "suffix"),
    [("ista_net", ".safetensors"), ("ista_net_plus", ".pth"), ("opine_net_plus", ".pkl"), ("ista_net", ".pt")],
)
def test_every_parameter_gets_the_authors_values(tmp_path, method, suffix):
    state, into = released(method), system(method)
    load_released(into, method, saved(tmp_path / f"weights{suffix}", state))
    own = into.state_dict()
    names = plugins.card(method).released_names
    ours = {rename(names, key): value for key, value in state.items()}
    assert ours.keys() == {name for name, _ in into.named_parameters()}
    assert all(torch.equal(own[name], value) for name, value in ours.items())


@pytest.mark.parametrize("wrapper", ["state_dict", "params"])
def test_a_wrapped_state_dict_is_unwrapped(tmp_path, wrapper):
    path = saved(tmp_path / "weights.pth", {wrapper: released(), "epoch": 3})
    assert read_released(path).keys() == released().keys()


def refused(tmp_path, change, method="ista_net"):
    state = released(method)
    change(state)
    into = system(method)
    before = {name: value.clone() for name, value in into.state_dict().items()}
    with pytest.raises(LorunError) as error:
        load_released(into, method, saved(tmp_path / "weights.pkl", state))
    assert all(torch.equal(value, before[name]) for name, value in into.state_dict().items())
    return str(error.value)


def test_a_key_without_a_place_is_named(tmp_path):
    message = refused(tmp_path, lambda state: state.update({"module.fcs.0.conv_D": torch.zeros(32, 1, 3, 3)}))
    assert "key `module.fcs.0.conv_D` has no place in ista_net" in message


def test_a_key_of_another_shape_is_named(tmp_path):
    message = refused(tmp_path, lambda state: state.update({"module.fcs.3.soft_thr": torch.zeros(2)}))
    assert "key `module.fcs.3.soft_thr` has shape (2,), ista_net expects (1,)" in message


def test_a_missing_key_is_named_as_we_call_it(tmp_path):
    message = refused(tmp_path, lambda state: state.pop("module.fcs.8.conv2_forward"))
    assert "has nothing for `network.unrolled.8.forward_transform.2.weight` of ista_net" in message


def test_a_matrix_of_another_ratio_is_named(tmp_path):
    message = refused(tmp_path, lambda state: state.update({"module.Phi": torch.zeros(15, 64)}), "opine_net_plus")
    assert "key `module.Phi` has shape (15, 64), opine_net_plus expects (16, 64)" in message


def test_values_that_are_not_finite_are_named(tmp_path):
    message = refused(tmp_path, lambda state: state["module.fcs.1.conv1_forward"].fill_(float("nan")))
    assert "key `module.fcs.1.conv1_forward` has values that are not finite" in message


def test_a_key_that_stands_twice_is_named(tmp_path):
    message = refused(tmp_path, lambda state: state.update({"fcs.2.soft_thr": torch.zeros(1)}))
    assert "key `fcs.2.soft_thr` is the second key for `network.unrolled.2.threshold` of ista_net" in message


def test_a_key_that_holds_no_tensor_is_named(tmp_path):
    message = refused(tmp_path, lambda state: state.update(epoch=3))
    assert message.endswith("not a state dict: its key `epoch` holds int, not a tensor")


@pytest.mark.parametrize("other", ["ista_net_plus", "opine_net_plus"])
def test_weights_of_another_network_are_refused(tmp_path, other):
    with pytest.raises(LorunError, match="weights of another"):
        load_released(system(), "ista_net", saved(tmp_path / "weights.pkl", released(other)))


class Dangerous:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_file_that_would_run_code_is_refused(tmp_path, capsys):
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"fcs": Dangerous()}))
    with pytest.raises(LorunError, match="refused: it holds objects that are not data"):
        read_released(path)
    torch.save({"fcs": Dangerous()}, path)
    with pytest.raises(LorunError, match="refused: it holds objects that are not data"):
        read_released(path)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("what", [[torch.zeros(2)], {}, {"epoch": 3}, {"weights": {"a": torch.zeros(1)}}])
def test_what_is_not_a_state_dict_is_refused(tmp_path, what):
    with pytest.raises(LorunError, match="weights.pkl: not a (state dict|dictionary)"):
        read_released(saved(tmp_path / "weights.pkl", what))


def test_a_missing_and_a_truncated_file(tmp_path):
    with pytest.raises(LorunError, match="no such weights file"):
        read_released(tmp_path / "absent.pkl")
    path = saved(tmp_path / "weights.pkl", released())
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(LorunError, match="weights.pkl: (not a checkpoint, or damaged|refused)"):
        read_released(path)


@pytest.fixture
def profile(tiny_profile_file, tmp_path):
    content = yaml.safe_load(tiny_profile_file.read_text())
    content["tasks"]["cs"].update(
        strategies=[],
        baselines=["linear_mmse", "ista_net"],
        weights={"ista_net": {"r25": str(saved(tmp_path / "weights.pkl", released()))}},
        settings={"r25": {"ratio": 25}, "r10": {"ratio": 10}},
    )
    content["tasks"]["cs"]["physics"]["initial"] = "lmmse"
    content["seeds"] = [0, 1]
    tiny_profile_file.write_text(yaml.safe_dump(content))
    return load_profile(tiny_profile_file)


def test_a_profile_takes_them_in_place_of_a_training(profile, tiny_data, tmp_path):
    experiment = profile.experiment("cs", "r25", "ista_net", 0)
    outcome = train(experiment, runs=tmp_path / "runs", data=tiny_data, device=torch.device("cpu"))
    assert (outcome.status, outcome.steps, outcome.checkpoint_policy) == ("completed", 0, "released")
    from lorun.evaluation.reconstruct import load_system

    found = load_system(experiment, tmp_path / "runs").state_dict()
    assert torch.equal(found["network.unrolled.2.threshold"], released()["module.fcs.2.soft_thr"])
    assert found["physics.initialiser"].abs().sum() > 0  # fitted on the training images
    assert train(experiment, runs=tmp_path / "runs", data=tiny_data, device=torch.device("cpu")) == outcome


def test_they_run_in_their_settings_and_with_one_seed(profile):
    found = [(e.setting, e.method, e.seed) for e in profile.experiments()]
    assert [entry for entry in found if entry[1] == "ista_net"] == [("r25", "ista_net", 0)]
    assert len([entry for entry in found if entry[1] == "linear_mmse"]) == 4
    with pytest.raises(LorunError, match="'ista_net' does not run in 'r10', but in r25"):
        profile.experiment("cs", "r10", "ista_net", 0)


def test_the_key_depends_on_weights_and_operator_alone(profile):
    experiment = profile.experiment("cs", "r25", "ista_net", 0)
    assert with_spec(experiment, name="ista_net_25").key == experiment.key
    assert with_spec(experiment, weights=Path("other.pkl")).key != experiment.key
