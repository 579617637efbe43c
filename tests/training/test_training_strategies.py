"""What each strategy starts from, and what it trains."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from lorun.denoisers import DENOISERS
from lorun.errors import LorunError
from lorun.methods import PRESETS, STRATEGIES, Experiment
from lorun.profiles import Profile, load_profile
from lorun.training import train
from lorun.training.outcome import WEIGHTS
from lorun.training.start import starting_system
from lorun.training.weights import load_weights

CPU = torch.device("cpu")
PARTS = ("base", "adapters", "step_sizes", "noise_levels")


def with_strategies(path: Path, **changes: Any) -> Profile:
    """The tiny profile with every strategy that needs no other setting or file, and short trainings."""
    content = yaml.safe_load(path.read_text())
    task = content["tasks"]["cs"]
    task["strategies"] = [name for name in STRATEGIES if name not in ("lorun_transfer", "lorun_denoiser")]
    task["training"] |= {"steps": 12, "phase1_steps": 4, "learning_rate": 1e-2, "checkpoint_every": 4}
    task |= changes
    path.write_text(yaml.safe_dump(content))
    return load_profile(path)


@pytest.fixture(scope="module")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A profile, and the runs of the bases of all its strategies."""
    from tiny import PROFILE

    folder = tmp_path_factory.mktemp("strategies")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(PROFILE))
    for experiment in with_strategies(folder / "tiny.yaml").experiments():
        train_bases(experiment, folder / "runs", tiny_data)
    return folder / "tiny.yaml", folder / "runs"


def train_bases(experiment: Experiment, runs: Path, data: Path) -> None:
    if experiment.base is not None:
        train_bases(experiment.base, runs, data)
        assert train(experiment.base, runs=runs, data=data, device=CPU).status == "completed"


def weights(runs: Path, experiment: Experiment) -> dict[str, Tensor]:
    """The weights of a trained network, by their names in it."""
    state = load_weights(runs / experiment.folder / WEIGHTS)
    return {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}


def denoiser(state: dict[str, Tensor], stage: int = 0) -> dict[str, Tensor]:
    prefix = f"denoisers.{stage}."
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def assert_equal(own: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert own.keys() == expected.keys()
    assert [name for name in own if not torch.equal(own[name], expected[name])] == []


def start(trained: tuple[Path, Path], data: Path, method: str) -> tuple[Experiment, Any]:
    """An experiment, and its network before the first step."""
    experiment = load_profile(trained[0]).experiment("cs", "r25", method, 0)
    return experiment, starting_system(experiment, trained[1], data).network


# strategy -> the network that it starts from, and what it trains
SHARED = {
    "lorun": ("pretrain", {"adapters", "step_sizes"}),
    "lorun_sigma": ("pretrain_sigma", {"adapters", "step_sizes", "noise_levels"}),
    "lorun_mixed": ("pretrain_mixed", {"adapters", "step_sizes"}),
    "lorun_shared": ("pretrain_shared", {"adapters", "step_sizes"}),
    "lorun_shared_sigma": ("pretrain_shared_sigma", {"adapters", "step_sizes", "noise_levels"}),
    "frozen": ("pretrain", {"step_sizes"}),
    "block_k_base": ("pretrain", {"base", "step_sizes"}),
    "pretrain_block_k": ("pretrain", {"base", "step_sizes"}),
}
ALONE = {
    "block1": {"base", "step_sizes"},
    "block_k": {"base", "step_sizes"},
    "shared": {"base", "step_sizes"},
    "shared_sigma": {"base", "step_sizes", "noise_levels"},
    "lorun_random": {"adapters", "step_sizes"},
    "relaxed": {"base", "adapters", "step_sizes"},
}
DECOMPOSED = {
    "relaxed_svd": ("pretrain_block_k", {"base", "adapters", "step_sizes"}),
    "oracle": ("block_k_base", set()),
}


def parts(network: Any) -> dict[str, list[Tensor]]:
    kinds = network.parameter_kinds()
    return {name: kinds["other" if name == "noise_levels" else name] for name in PARTS}


@pytest.mark.parametrize("method", sorted({*STRATEGIES, "pretrain_block_k"} - {"lorun_transfer", "lorun_denoiser"}))
def test_what_is_trained(trained: tuple[Path, Path], tiny_data: Path, method: str) -> None:
    _, network = start(trained, tiny_data, method)
    table = {method: trains for method, (_, trains) in {**SHARED, **DECOMPOSED}.items()} | ALONE
    found = {name for name, some in parts(network).items() if any(p.requires_grad for p in some)}
    assert found == table[method]
    assert all(p.requires_grad == (name in found) for name, some in parts(network).items() for p in some)


@pytest.mark.parametrize("method", SHARED)
def test_every_stage_starts_as_the_base(trained: tuple[Path, Path], tiny_data: Path, method: str) -> None:
    experiment, network = start(trained, tiny_data, method)
    assert experiment.base.method == SHARED[method][0]
    base = weights(trained[1], experiment.base)
    for own in network.denoisers:
        named = own.base_parameters() if network.adapted else dict(own.named_parameters())
        assert_equal(named, denoiser(base))
    assert torch.equal(network.step_sizes, base["step_sizes"].expand(3))
    assert len(base["step_sizes"]) == (3 if "shared" in method else 1)
    if network.noise_levels is not None:
        assert torch.equal(network.noise_levels, base["noise_levels"].expand(3))
    assert not any(p.any() for name, p in network.named_parameters() if "lora_B" in name)


@pytest.mark.parametrize("method", DECOMPOSED)
def test_adapters_are_the_best_of_their_rank_for_the_stages_of_a_block_k(
    trained: tuple[Path, Path], tiny_data: Path, method: str
) -> None:
    experiment, network = start(trained, tiny_data, method)
    assert experiment.base.method == DECOMPOSED[method][0]
    base = weights(trained[1], experiment.base)
    stages = [denoiser(base, stage) for stage in range(3)]
    mean = {name: sum(one[name] for one in stages) / 3 for name in stages[0]}
    own = network.denoisers[0].base_parameters()
    assert own.keys() == mean.keys()
    for name, value in own.items():
        torch.testing.assert_close(value.detach(), mean[name])
    assert torch.equal(network.step_sizes, base["step_sizes"])
    for stage in range(3):
        network.denoisers[0].activate(stage)
        for name, layer in network.denoisers[0].named_layers.items():
            change = (stages[stage][f"{name}.weight"] - mean[f"{name}.weight"]).flatten(1).double()
            got = (layer.composed_weight() - layer.base_layer.weight).detach().flatten(1).double()
            left_out = torch.linalg.svdvals(change)[network.denoisers[0].ranks[name] :]
            assert (change - got).norm() == pytest.approx(left_out.norm().item(), abs=1e-5)
            assert change.norm() > 1e-4
    assert any(p.any() for name, p in network.named_parameters() if "lora_B" in name)


def test_the_oracle_is_not_trained_and_costs_what_its_block_k_costs(
    trained: tuple[Path, Path], tiny_data: Path
) -> None:
    experiment, network = start(trained, tiny_data, "oracle")
    outcome = train(experiment, runs=trained[1], data=tiny_data, device=CPU)
    block_k = train(experiment.base, runs=trained[1], data=tiny_data, device=CPU)
    assert (outcome.status, outcome.steps, outcome.scored_step) == ("completed", 0, None)
    assert (outcome.total_steps, outcome.training_flops) == (block_k.total_steps, block_k.training_flops)
    assert_equal(weights(trained[1], experiment), dict(network.state_dict()))


def test_every_base_of_a_strategy_is_a_pretraining_or_a_strategy() -> None:
    named = {preset.own_base for preset in PRESETS.values()} - {None}
    assert named <= PRESETS.keys()
    assert {preset.noise_map for name, preset in PRESETS.items() if name.endswith("_sigma")} == {True}
    assert all(PRESETS[one.own_base].noise_map == one.noise_map for one in PRESETS.values() if one.own_base)
    assert all(preset.about for preset in PRESETS.values())


def test_a_published_denoiser_is_the_frozen_base_and_adapters_alone_are_trained(
    tiny_profile_file: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = {"name": "fdncnn", "width": 4, "depth": 4, "weights": "elsewhere/weights.mat"}
    profile = with_strategies(tiny_profile_file, strategies=["lorun_denoiser"], denoiser=section)
    config = profile.tasks["cs"].denoiser
    torch.manual_seed(7)
    released = {name: torch.randn_like(value) for name, value in config.build(1, True).state_dict().items()}
    monkeypatch.setattr(type(config), "released_weights", lambda self: released)
    experiment = profile.experiment("cs", "r25", "lorun_denoiser", 0)
    assert experiment.base is None
    network: Any = starting_system(experiment, tmp_path, tiny_data).network
    assert_equal(network.denoisers[0].base_parameters(), released)
    found = {name for name, some in parts(network).items() if any(p.requires_grad for p in some)}
    assert found == {"adapters", "step_sizes", "noise_levels"}


def test_a_published_denoiser_needs_its_weights(tiny_profile_file: Path) -> None:
    with pytest.raises(LorunError, match="starts from a published denoiser, but `denoiser.weights` names none"):
        with_strategies(tiny_profile_file, strategies=["lorun_denoiser"])
    assert "fdncnn" in DENOISERS.names()
