"""A training says which of the parameters that it trains ended as they began."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import with_training
from torch import Tensor, nn

from lorun.profiles import Profile
from lorun.training import Outcome, train
from lorun.training.movement import fingerprints, unmoved
from lorun.unfolding import UnfoldingNetwork

Train = Callable[..., Outcome]


@pytest.fixture
def trained(tiny_profile: Profile, tiny_data: Path, tmp_path: Path) -> Train:
    """Train a method of the tiny profile, three stages, with its base before: trained("lorun", ema=0.5)."""

    def trained(method: str, **training: object) -> Outcome:
        experiment = tiny_profile.experiment("cs", "r25", method, 0)
        experiment = with_training(experiment, **training)
        places = {"runs": tmp_path / "runs", "data": tiny_data, "device": torch.device("cpu")}
        if method in ("lorun", "frozen"):
            train(experiment.base, **places)
        return train(experiment, **places)

    return trained


@pytest.fixture
def stage_2_takes_the_place_of_stage_3(monkeypatch: pytest.MonkeyPatch) -> None:
    proximal_step = UnfoldingNetwork.proximal_step

    def wrong(self: UnfoldingNetwork, z: Tensor, stage: int, sigma: Tensor | None) -> Tensor:
        return proximal_step(self, z, min(stage, 1), sigma)

    monkeypatch.setattr(UnfoldingNetwork, "proximal_step", wrong)


@pytest.mark.parametrize("method", ["block1", "block_k", "shared_sigma", "lorun", "lorun_random", "frozen"])
def test_everything_moves_that_is_trained(trained: Train, method: str) -> None:
    assert trained(method).unmoved == []


@pytest.mark.parametrize("training", [{}, {"ema": 0.9}, {"optimizer": "adamw", "weight_decay": 0.1}])
@pytest.mark.usefixtures("stage_2_takes_the_place_of_stage_3")
def test_the_adapter_of_a_dead_stage_is_named(trained: Train, training: dict[str, object]) -> None:
    dead = trained("lorun", **training).unmoved
    assert dead
    assert all(".stage_3." in name for name in dead)
    layers = {name.split(".lora_")[0] for name in dead}
    assert {name.split(".lora_B")[0] for name in dead if ".lora_B." in name} == layers  # of every layer


@pytest.mark.usefixtures("stage_2_takes_the_place_of_stage_3")
def test_the_denoiser_of_a_dead_stage_is_named(trained: Train) -> None:
    dead = trained("block_k").unmoved
    assert dead
    assert all(name.startswith("network.denoisers.2.") for name in dead)


def test_a_training_without_weights_does_not_say(trained: Train) -> None:
    outcome = trained("shared", learning_rate=1e30, clip_norm=None)
    assert outcome.status == "diverged"
    assert outcome.unmoved is None


def test_the_order_in_memory_and_the_sign_of_zero_are_no_movement() -> None:
    layer = nn.Conv2d(3, 2, 3)
    with torch.no_grad():
        layer.bias[0] = 0.0
    before = fingerprints(layer)
    layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.no_grad():
        layer.bias[0] = -0.0
    assert unmoved(layer, before) == ["weight", "bias"]
    with torch.no_grad():
        layer.weight[1, 2, 0, 0] = torch.nextafter(layer.weight[1, 2, 0, 0], torch.tensor(9.0))
    assert unmoved(layer, before) == ["bias"]


def test_what_is_frozen_is_not_expected_to_move() -> None:
    layer = nn.Conv2d(3, 2, 3)
    layer.weight.requires_grad_(False)
    assert unmoved(layer, fingerprints(layer)) == ["bias"]
