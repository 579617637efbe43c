"""Inputs of phase 1 that look like those of later stages."""

from pathlib import Path

import pytest
import torch
from tiny import with_training

from lorun.methods import PRESETS
from lorun.profiles import Profile, load_profile
from lorun.training import loop, train
from lorun.training.mixtures import mixtures
from lorun.training.patches import PatchStream
from lorun.unfolding import UnfoldingNetwork

CPU = torch.device("cpu")
X_0, X = torch.zeros(8, 1, 64, 64), torch.ones(8, 1, 64, 64)


class Cut(Exception):
    """Ends a training from inside."""


def test_half_of_a_batch_lies_between_initial_reconstruction_and_truth_with_noise() -> None:
    mixed = mixtures(8, slice(0, 8), seed=0, step=3)(X_0, X)
    assert torch.equal(mixed[:4], X_0[:4])
    weights, noise = mixed[4:].mean((1, 2, 3)), mixed[4:].std((1, 2, 3))
    assert ((weights > 0) & (weights < 1)).all()
    assert ((noise > 0) & (noise < 0.055)).all()
    assert len({round(value, 3) for value in [*weights.tolist(), *noise.tolist()]}) == 8


def test_they_depend_on_seed_and_step_alone() -> None:
    def drawn(**changes: int) -> torch.Tensor:
        return mixtures(8, slice(0, 8), **{"seed": 0, "step": 3, **changes})(X_0, X)

    first = drawn()
    torch.manual_seed(1)
    assert torch.equal(drawn(), first)
    assert not torch.allclose(drawn(step=4), first)
    assert not torch.allclose(drawn(seed=1), first)


def test_processes_share_the_batch_of_one() -> None:
    whole = mixtures(8, slice(0, 8), seed=0, step=3)(X_0, X)
    parts = [mixtures(8, share, seed=0, step=3)(X_0[share], X[share]) for share in (slice(0, 4), slice(4, 8))]
    assert torch.equal(torch.cat(parts), whole)


def test_a_batch_of_one_is_left_as_it_is() -> None:
    assert torch.equal(mixtures(1, slice(0, 1), seed=0, step=3)(X_0[:1], X[:1]), X_0[:1])


@pytest.fixture
def profile(tiny_profile_file: Path) -> Profile:
    return load_profile(tiny_profile_file)


def test_one_pretraining_has_them(profile: Profile) -> None:
    names = [name for name, preset in PRESETS.items() if preset.base is None]
    trained = {name: profile.resolve("cs", "r25", name, 0).training for name in names}
    assert [name for name in names if trained[name].inputs == "mixtures"] == ["pretrain_mixed"]
    assert PRESETS["lorun_mixed"].base == "pretrain_mixed"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_pretraining_that_was_cut_goes_on_to_the_same_bits(
    profile: Profile, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    starts = []
    forward = UnfoldingNetwork.forward

    def recorded(self: UnfoldingNetwork, y: torch.Tensor, physics: object, start: object = None) -> torch.Tensor:
        starts.append(start is not None)
        return forward(self, y, physics, start)

    monkeypatch.setattr(UnfoldingNetwork, "forward", recorded)
    monkeypatch.setattr(loop, "step_flops", lambda experiment: 1)  # which makes a step too
    experiment = with_training(profile.resolve("cs", "r25", "pretrain_mixed", 0), precision=precision)
    batch = PatchStream.batch

    def cut(self: PatchStream, step: int) -> torch.Tensor:
        if step == 3:
            raise Cut
        return batch(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(PatchStream, "batch", cut)
        with pytest.raises(Cut):
            train(experiment, runs=tmp_path / "cut", data=tiny_data, device=CPU)
    train(experiment, runs=tmp_path / "cut", data=tiny_data, device=CPU)
    outcome = train(experiment, runs=tmp_path / "whole", data=tiny_data, device=CPU)
    assert outcome.precision == precision
    one, other = (tmp_path / name / experiment.folder / "weights.safetensors" for name in ("cut", "whole"))
    assert one.read_bytes() == other.read_bytes()
    assert sum(starts) == 3 + 2 + 4  # steps, not validations
    plain = with_training(experiment, inputs="initial")
    assert train(plain, runs=tmp_path, data=tiny_data, device=CPU).curve[-1].loss != outcome.curve[-1].loss
