"""What is compared is the same function, computed in different ways."""

import pytest
import torch

from lorun.bench import backward, loop, steps
from lorun.bench.steps import Measured, bytes_held, count
from lorun.bench.targets import TARGETS, judge
from lorun.bench.variants import VARIANTS, benchmarked, build_variant, one_step, reconstruction
from lorun.errors import LorunError, UnknownName
from lorun.profiles import load_profile

CPU = torch.device("cpu")


@pytest.fixture
def experiment(tiny_profile_file):
    return benchmarked(load_profile(tiny_profile_file))


def output(name, experiment):
    system = build_variant(name, experiment)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, parameter in system.named_parameters():
            if "lora_" in key:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    physics = system.physics.at(32, 32)
    x = torch.rand(1, experiment.channels, 32, 32, generator=generator)
    y = system.network(physics(x), physics)
    y.square().mean().backward()
    return y.detach(), sum(p.grad.square().sum() for p in system.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("variant", "same_as"),
    [
        ("lorun_by_peft", "lorun"),
        ("lorun_recomputed", "lorun"),
        ("block_k_recomputed", "block_k"),
        ("deepinv_unfolded", "block_k"),
    ],
)
def test_variants_are_the_same_function_with_the_same_gradients(variant, same_as, experiment):
    for ours, theirs in zip(output(variant, experiment), output(same_as, experiment), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_steps_reconstructs_and_is_counted(variant, experiment):
    system = build_variant(variant, experiment)
    before = [p.detach().clone() for p in system.parameters() if p.requires_grad]
    step = one_step(system, experiment, CPU)
    step()
    assert all(p.grad is not None for p in system.parameters() if p.requires_grad)
    assert len(before) > 0
    reconstruction(system, experiment, CPU)()
    assert count(experiment, variant, "training step").total > count(experiment, variant, "reconstruction").total > 0


def test_a_merged_copy_counts_as_held(experiment):
    network = build_variant("lorun", experiment).network
    held = bytes_held(network)
    assert held == 4 * sum(p.numel() for p in network.parameters())
    layer = network.denoisers[0].layers[0]
    layer.merged_copy = layer.composed_weight().detach().clone()
    assert bytes_held(network) == held + layer.merged_copy.nbytes


def test_an_unknown_variant_and_a_profile_without_lorun_are_refused(experiment, tiny_profile_file):
    with pytest.raises(UnknownName, match="lorun_by_peft"):
        build_variant("lorun_by_pft", experiment)
    profile = load_profile(tiny_profile_file)
    task, of = next(iter(profile.tasks.items()))
    only = of.model_copy(update={"strategies": ["block_k"]})
    with pytest.raises(LorunError, match="no setting with `lorun`"):
        benchmarked(profile.model_copy(update={"tasks": {task: only}}))


def measured(experiment, what, **seconds):
    variants = steps.COMPARED[what]
    times = {name: [seconds.get(name, 1.0)] * 3 for name in variants}
    peaks = {name: count(experiment, "block_k", "reconstruction") for name in variants}
    return Measured("tiny", what, experiment, times, peaks, dict.fromkeys(variants, 8), dict.fromkeys(variants, 2))


def test_verdicts_follow_from_ratios_and_limits(experiment):
    found = [measured(experiment, "training step", block_k=2.0), measured(experiment, "reconstruction")]
    table = judge(found, on_gpu=False)
    assert len(table) == len(TARGETS) + 1
    verdict = dict(zip(table.target, table.verdict, strict=True))
    found = dict(zip(table.target, table.measured, strict=True))
    assert found["training step, time: lorun / block_k"] == 0.5
    assert verdict["training step, time: lorun / block_k"] == "pass"
    assert verdict["training step, time: lorun / lorun_by_peft"] == "miss"
    assert verdict["reconstruction, parameters held: lorun / block_k"] == "pass"
    assert verdict["training step, peak bytes: lorun_recomputed / block_k"] == "miss"
    assert table.verdict[0] == "not measured: no GPU"
    for peft, expected in [(2.5, "pass"), (1.5, "miss")]:
        table = judge([measured(experiment, "training step", lorun_by_peft=peft)], on_gpu=True)
        assert (table.measured[0], table.verdict[0]) == (peft, expected)


@pytest.mark.parametrize("alternative", [name for name in loop.ALTERNATIVES if name != "compiled"])
def test_every_alternative_of_the_loop_steps(alternative, tiny_profile_file):
    step = loop.prepare(str(tiny_profile_file), alternative)
    step()
    step()


def test_backward_passes_are_timed_both_ways(monkeypatch):
    monkeypatch.setattr(backward, "WIDTHS", {16: 8, 32: 8})
    monkeypatch.setattr(backward, "GAMMAS", (5,))
    monkeypatch.setattr(backward, "_CACHE", 10)
    table = backward.measure(2, 1)
    assert len(table) == 4
    assert set(table.chosen) == {"low_rank", "full"}
    assert (table.low_rank_seconds > 0).all()
    assert (table.full_seconds > 0).all()
