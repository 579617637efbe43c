"""Recomputed stages: the same gradients and weights, bit for bit, and how `auto` chooses."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import NETWORKS, unfolding_network, with_training
from torch import Tensor, nn

from lorun.accounting.prediction import predict_steps
from lorun.config import Recompute
from lorun.denoisers.unet import UNet
from lorun.errors import LorunError
from lorun.methods import PRESETS, Experiment
from lorun.physics.block_cs import BlockCSConfig
from lorun.physics.denoising import DenoisingConfig
from lorun.profiles import Profile
from lorun.system import set_recompute
from lorun.training import Outcome, read_outcome, train
from lorun.training.patches import PatchStream
from lorun.training.recompute import choose_recompute
from lorun.unfolding import UnfoldingNetwork

CPU = torch.device("cpu")
K = 3


class Dropping(nn.Module):
    """A denoiser that draws random numbers, and counts its calls."""

    def __init__(self, noise_map: bool, calls: list[int], dropout: float) -> None:
        super().__init__()
        self.unet = UNet(1, width=4, levels=2, blocks=1, noise_map=noise_map)
        self.dropout = nn.Dropout(dropout)
        self.calls = calls

    def forward(self, z: Tensor, *sigma: Tensor) -> Tensor:
        self.calls.append(1)
        output: Tensor = self.dropout(self.unet(z, *sigma))
        return output


def gradients(
    sharing: str, recompute: Recompute, *, composed: bool = True, dropout: float = 0.0, half: bool = False
) -> tuple[dict[str, Tensor], Tensor, int]:
    """Of every trained parameter, in float64 or under bfloat16 autocast; the loss; the calls of denoisers."""
    dtype = torch.float32 if half else torch.float64
    torch.manual_seed(0)
    calls: list[int] = []
    network = unfolding_network(sharing, lambda noise: Dropping(noise, calls, dropout), K, composed=composed)
    with torch.no_grad():  # adapters start with B = 0, and all stages alike
        for parameter in network.parameter_kinds()["adapters"]:
            parameter.copy_(0.1 * torch.randn(parameter.shape))
    network.to(dtype)
    physics = BlockCSConfig(ratio=25, block=8, initial="adjoint").build().to(dtype)
    x = torch.rand(2, 1, 16, 24, dtype=dtype)
    assert set_recompute(network, recompute) == recompute
    y = physics(x)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        estimate = network(y, physics)
    loss = (estimate - x).square().mean()
    loss.backward()
    found = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    assert all(gradient is not None and gradient.any() for gradient in found.values())
    return found, loss.detach(), len(calls)


ADAPTED = [name for name in NETWORKS if PRESETS[name].adapted]
CASES = [
    *((name, True, {"dropout": 0.3}) for name in NETWORKS),
    *((name, True, {"half": True, "dropout": 0.3}) for name in ("shared_sigma", "frozen", "lorun")),
    *((name, False, {"half": name == "lorun", "dropout": 0.3}) for name in ADAPTED),
    ("block_k", True, {}),
    ("lorun", True, {"half": True}),
]


@pytest.mark.parametrize(("sharing", "composed", "case"), CASES, ids=str)
def test_the_gradients_are_the_same_bit_for_bit(sharing: str, composed: bool, case: dict[str, float]) -> None:
    kept, loss, calls = gradients(sharing, "none", composed=composed, **case)
    recomputed, loss_again, calls_again = gradients(sharing, "stage", composed=composed, **case)
    stages = 1 if sharing == "block1" else K
    assert (calls, calls_again) == (stages, 2 * stages - 1)
    assert torch.equal(loss, loss_again)
    assert [name for name in kept if not torch.equal(kept[name], recomputed[name])] == []


def test_dropout_is_another_function_each_time() -> None:
    """Else the test above would not see that the masks are drawn anew."""
    with_dropout, without = gradients("shared", "none", dropout=0.3), gradients("shared", "none")
    assert not torch.equal(with_dropout[1], without[1])


@pytest.mark.parametrize("sharing", NETWORKS)
def test_halves_of_the_batch_have_the_same_gradients_except_for_rounding(sharing: str) -> None:
    kept, loss, calls = gradients(sharing, "none")
    halves, loss_again, calls_again = gradients(sharing, "half_stage")
    assert calls_again == 4 * calls - 1  # all halves twice, but for the last one
    torch.testing.assert_close(loss_again, loss, rtol=1e-12, atol=0.0)
    scale = max(float(gradient.abs().max()) for gradient in kept.values())  # the first step size may have none
    for name, gradient in kept.items():
        torch.testing.assert_close(halves[name], gradient, rtol=1e-11, atol=1e-12 * scale, msg=name)


def test_noise_levels_go_with_their_half_of_the_batch() -> None:
    torch.manual_seed(0)
    network = UnfoldingNetwork(lambda noise: UNet(1, width=4, levels=2, blocks=1, noise_map=noise), 2, noise_map=True)
    physics = DenoisingConfig(noise_range=(0.0, 55.0), noise_map=True).build()
    physics = physics.for_training((16, 16), np.random.default_rng(0))
    y = physics(torch.rand(3, 1, 16, 16))
    estimates = []
    for recompute in ("none", "half_stage"):
        set_recompute(network, recompute)
        estimates.append(network(y, physics))
    torch.testing.assert_close(*estimates)


def test_one_image_has_no_halves() -> None:
    torch.manual_seed(0)
    network = UnfoldingNetwork(lambda noise: UNet(1, width=4, levels=2, blocks=1), 2)
    physics = BlockCSConfig(ratio=25, block=8, initial="adjoint").build()
    y = physics(torch.rand(1, 1, 16, 16))
    kept = network(y, physics)
    set_recompute(network, "half_stage")
    assert torch.equal(network(y, physics), kept)


def test_a_layer_that_normalises_over_the_batch_is_not_given_half_of_it() -> None:
    def make(noise: bool) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1))

    network = UnfoldingNetwork(make, 2)
    assert set_recompute(network, "stage") == "stage"
    with pytest.raises(LorunError, match="'half_stage': a layer normalises over the batch; choose from none, stage$"):
        set_recompute(network, "half_stage")


def test_without_stages_there_is_nothing_to_recompute() -> None:
    layer = nn.Conv2d(1, 1, 3)
    assert set_recompute(layer, "stage") == "none"
    assert not hasattr(layer, "recompute")


# Trainings

Go = Callable[..., Outcome]


def tiny(profile: Profile, method: str, **training: object) -> Experiment:
    experiment = profile.resolve("cs", "r25", method, 0)
    return with_training(experiment, **training) if training else experiment


@pytest.fixture
def go(tiny_profile: Profile, tiny_data: Path, tmp_path: Path) -> Go:
    """Train a method of the tiny profile into a folder: go("shared", "a", recompute="stage")."""

    def go(method: str, runs: str, **training: object) -> Outcome:
        return train(tiny(tiny_profile, method, **training), runs=tmp_path / runs, data=tiny_data, device=CPU)

    return go


def weights(profile: Profile, folder: Path, method: str, **training: object) -> dict[str, Tensor]:
    return load_file(folder / tiny(profile, method, **training).folder / "weights.safetensors")


def budget_between(profile: Profile, method: str, **training: object) -> float:
    """MB that a step fits only if its stages are recomputed."""
    experiment = tiny(profile, method, **training)
    peaks = predict_steps(experiment, experiment.training.batch, experiment.training.patch_size)
    assert peaks["stage"].total < peaks["none"].total
    return (peaks["stage"].total + 1) / 1e6


AVERAGED = {"ema": 0.9, "precision": "bfloat16"}


@pytest.mark.parametrize(
    ("method", "more"),
    [
        *((name, {}) for name in NETWORKS),
        ("block_k", AVERAGED),
        ("lorun", AVERAGED),
    ],
    ids=str,
)
def test_the_weights_are_the_same_byte_for_byte(
    go: Go, tiny_profile: Profile, tmp_path: Path, method: str, more: dict[str, object]
) -> None:
    more = {**more, "steps": 4, "phase1_steps": 2}
    found, curves, used = {}, {}, {}
    for recompute in ("none", "stage"):
        base = tiny(tiny_profile, method).base
        if base is not None:
            go(base.method, recompute, **more)
        outcome = go(method, recompute, recompute=recompute, **more)
        found[recompute] = weights(tiny_profile, tmp_path / recompute, method, **more)
        curves[recompute], used[recompute] = outcome.curve, outcome.recompute
    assert used == {"none": "none", "stage": "stage"}
    assert curves["stage"] == curves["none"]
    assert found["stage"].keys() == found["none"].keys()
    assert all(torch.equal(value, found["none"][key]) for key, value in found["stage"].items())


@pytest.mark.parametrize(("method", "chosen"), [("block1", "none"), ("block_k", "stage")])
def test_auto_trains_with_what_fits(go: Go, tiny_profile: Profile, method: str, chosen: str) -> None:
    budget = 1000.0 if chosen == "none" else budget_between(tiny_profile, method)
    assert go(method, "auto", steps=2, recompute="auto", memory_budget=budget).recompute == chosen


def test_a_run_may_go_on_with_another_setting(
    go: Go, tiny_profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go("shared", "whole")
    batch = PatchStream.batch

    def cut_short(self: PatchStream, step: int) -> Tensor:
        if step == 5:
            raise KeyboardInterrupt
        return batch(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(PatchStream, "batch", cut_short)
        with pytest.raises(KeyboardInterrupt):
            go("shared", "cut")
    assert go("shared", "cut", recompute="stage").recompute == "stage"
    one, other = (weights(tiny_profile, tmp_path / name, "shared") for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_auto_takes_the_least_that_fits_and_says_so(tiny_profile: Profile, capsys: pytest.CaptureFixture[str]) -> None:
    def choose(budget: float) -> str:
        return choose_recompute(tiny(tiny_profile, "block_k", recompute="auto", memory_budget=budget), CPU)

    peaks = predict_steps(tiny(tiny_profile, "block_k"), 2, (16, 16))
    none, stage, half = (peaks[recompute].total for recompute in ("none", "stage", "half_stage"))
    assert choose(none / 1e6) == "none"
    assert choose((none - 1) / 1e6) == "stage"
    assert choose(stage / 1e6) == "stage"
    assert choose((stage - 1) / 1e6) == "half_stage"
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[1].startswith(
        "cs/r25/block_k seed 0: recompute is stage: predicted 0.3 MB with none, 0.2 MB with stage, "
    )
    with pytest.raises(LorunError) as error:
        choose((half - 1) / 1e6)
    assert str(error.value) == (
        "cs/r25/block_k seed 0: a step on 2 patches of 16 x 16 pixels is predicted to take "
        f"{none / 1e6:.1f} MB with none, {stage / 1e6:.1f} MB with stage, {half / 1e6:.1f} MB with half_stage, "
        f"the budget is {half / 1e6:.1f} MB: "
        "lower `batch` or `patch`, or raise `memory_budget`"
    )


def test_auto_counts_the_share_of_one_process(tiny_profile: Profile) -> None:
    half, whole = (predict_steps(tiny(tiny_profile, "block_k"), batch, (16, 16))["none"].total for batch in (1, 2))
    experiment = tiny(tiny_profile, "block_k", recompute="auto", memory_budget=(half + whole) / 2e6)
    assert choose_recompute(experiment, CPU, processes=2) == "none"
    assert choose_recompute(experiment, CPU) == "stage"


def test_auto_needs_a_budget_on_a_cpu_only(tiny_profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = tiny(tiny_profile, "block_k", recompute="auto", precision="float32")
    with pytest.raises(LorunError, match="`recompute: auto` needs a `memory_budget` \\(MB\\) on a CPU"):
        choose_recompute(experiment, CPU)
    needed = predict_steps(experiment, 2, (16, 16))["none"].total
    for free, chosen in ((needed / 0.9 + 2, "none"), (needed / 0.9 - 2, "stage")):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10 * free))
        assert choose_recompute(experiment, torch.device("cuda")) == chosen


def test_half_precision_needs_less(tiny_profile: Profile) -> None:
    """`auto` predicts the precision that the training computes in."""
    full, half = (tiny(tiny_profile, "block_k", precision=precision) for precision in ("float32", "bfloat16"))
    budget = predict_steps(half, 2, (16, 16))["none"].total / 1e6
    chosen = [
        choose_recompute(tiny(tiny_profile, "block_k", recompute="auto", memory_budget=budget, precision=p), CPU)
        for p in ("float32", "bfloat16")
    ]
    assert predict_steps(full, 2, (16, 16))["none"].total > 1e6 * budget
    assert chosen == ["stage", "none"]


def test_where_nothing_is_trained_nothing_is_recomputed(tiny_profile: Profile, tiny_data: Path, tmp_path: Path) -> None:
    experiment = tiny_profile.experiment("cs", "r25", "linear_mmse", 0)
    assert train(experiment, runs=tmp_path / "runs", data=tiny_data, device=CPU).recompute is None
    folder = tmp_path / "runs" / experiment.folder
    outcome = read_outcome(folder)
    assert outcome is not None
    # As a version wrote it that did not know of it.
    (folder / "training.json").write_text(outcome.model_dump_json(exclude={"recompute"}))
    assert read_outcome(folder) == outcome
