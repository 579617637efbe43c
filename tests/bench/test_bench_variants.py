"""The variants compute the same function, and targets are judged from their ratios."""

import timeit

import pandas as pd
import pytest
import torch
from tiny import PROFILE, PROJECT

from lorun.accounting.flops import step_flops
from lorun.bench import commands, steps
from lorun.bench.steps import Measured, bytes_held, count, judge
from lorun.bench.variants import LARGE_FLOPS, VARIANTS, benchmarked, for_variant, one_step, reconstruction
from lorun.errors import LorunError
from lorun.profiles import Profile, load_profile

CPU = torch.device("cpu")


@pytest.fixture
def experiment(tiny_profile_file):
    return benchmarked(load_profile(tiny_profile_file))


def output(name, experiment):
    system = VARIANTS[name](experiment)
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
        ("lorun_by_halves", "lorun"),
        ("block_k_recomputed", "block_k"),
        ("deepinv_unfolded", "block_k"),
    ],
)
def test_variants_are_the_same_function_with_the_same_gradients(variant, same_as, experiment):
    for ours, theirs in zip(output(variant, experiment), output(same_as, experiment), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_steps_reconstructs_and_is_counted(variant, experiment):
    system = VARIANTS[variant](experiment)
    before = [p.detach().clone() for p in system.parameters() if p.requires_grad]
    step = one_step(system, experiment, CPU)
    step()
    assert all(p.grad is not None for p in system.parameters() if p.requires_grad)
    assert len(before) > 0
    reconstruction(system.network, system.physics, experiment, CPU)()
    bytes_at_peak = [count(experiment, variant, what)["peak_bytes"] for what in ("training step", "reconstruction")]
    assert bytes_at_peak[0] > bytes_at_peak[1] > 0


def test_a_merged_copy_counts_as_held(experiment):
    network = VARIANTS["lorun"](experiment).network
    held = bytes_held(network)
    assert held == 4 * sum(p.numel() for p in network.parameters())
    layer = network.denoisers[0].layers[0]
    layer.merged_copy = layer.composed_weight().detach().clone()
    assert bytes_held(network) == held + layer.merged_copy.nbytes


def test_a_profile_without_lorun_is_refused():
    task = {**PROFILE["tasks"]["cs"], "strategies": ["block_k"]}
    with pytest.raises(LorunError, match="no setting with `lorun`"):
        benchmarked(Profile.model_validate({**PROFILE, "tasks": {"cs": task}}))


def measured(experiment, what, **seconds):
    """Results of all variants: 1 second, unless given, and 8 bytes."""
    variants = steps.COMPARED[what]
    timed = [*variants, steps.LARGE_CONVOLUTION] if what == "training step" else variants
    counts = dict.fromkeys(["peak_bytes", "peak_activations", "network_bytes_held"], 8) | {"parameters": 2}
    times = pd.DataFrame({name: [seconds.get(name, 1.0)] * 3 for name in timed})
    return Measured("tiny", what, experiment, times, pd.DataFrame(dict.fromkeys(variants, counts)).T)


def test_verdicts_follow_from_ratios_and_limits(experiment):
    table = judge(
        [measured(experiment, "training step", lorun_by_peft=2.0), measured(experiment, "reconstruction")], on_gpu=False
    )
    assert len(table) == len(steps.TARGETS)
    table = table.set_index("target")
    assert table.measured["training step, time: lorun / lorun_by_peft"] == 0.5
    assert table.q75["training step, time: lorun / lorun_by_peft"] == 0.5
    assert pd.isna(table.q75["training step, peak bytes: lorun_by_halves / block_k"])
    assert table.verdict["training step, time: lorun / lorun_by_peft"] == "pass"
    assert table.verdict["training step, time: lorun_bfloat16 / lorun"] == "miss"
    assert table.verdict["reconstruction, parameters held: lorun / block_k"] == "pass"
    assert table.verdict["training step, peak bytes: lorun_by_halves / block_k"] == "miss"


@pytest.mark.parametrize(
    ("peft", "on_gpu", "verdict"), [(2.5, True, "pass"), (1.5, True, "miss"), (2.5, False, "not measured: no GPU")]
)
def test_the_target_of_a_gpu_is_judged_there_only(experiment, peft, on_gpu, verdict):
    table = judge([measured(experiment, "training step", lorun_by_peft=peft)], on_gpu)
    assert table.verdict[table.target.str.contains("on a GPU")].tolist() == [verdict]


def test_start_up_is_judged_beyond_the_import():
    times = pd.DataFrame({"what": ["import", "a", "b"], "profile": "smoke", "extra_seconds": [None, 1.5, 2.5]})
    assert commands.judge_startup(times).verdict.tolist() == ["pass", "miss"]


def test_steps_are_timed_and_tabulated(tiny_profile_file, monkeypatch):
    def in_this_process(jobs, repeats, title):
        return pd.DataFrame({name: timeit.repeat(job(), number=1, repeat=repeats) for name, job in jobs.items()})

    monkeypatch.setattr(steps, "take_turns", in_this_process)
    table = steps.table([steps.measure(tiny_profile_file, "reconstruction", repeats=2, threads=1)], 1)
    assert table.variant.tolist() == ["lorun", "lorun_by_peft", "block_k"]
    assert table.time_to_lorun[0] == 1.0
    assert (table[["seconds", "peak_bytes", "network_bytes_held"]] > 0).all(axis=None)


def test_the_share_of_the_peak_is_judged(experiment):
    """Half of the speed of a large convolution passes, two fifths do not."""
    name = f"training step, time: lorun / {steps.LARGE_CONVOLUTION}"
    for seconds, verdict in ((0.5, "pass"), (0.4, "miss")):
        one = measured(experiment, "training step", **{steps.LARGE_CONVOLUTION: seconds})
        assert judge([one], on_gpu=False).set_index("target").verdict[name] == verdict


def test_the_large_convolutions_have_as_many_flops_as_a_step(tiny_profile_file, experiment, monkeypatch):
    monkeypatch.setattr(steps, "take_turns", lambda jobs, *_: pd.DataFrame({name: [1.0, 1.0] for name in jobs}))
    found = steps.measure(tiny_profile_file, "training step", repeats=2, threads=1)
    flops = step_flops(experiment)  # the batch and patch of the account are those of the training
    assert found.seconds[steps.LARGE_CONVOLUTION].tolist() == pytest.approx([flops / LARGE_FLOPS] * 2)
    table = steps.table([found], 1).set_index("variant")
    assert pd.isna(table.peak_bytes[steps.LARGE_CONVOLUTION])
    assert table.peak_bytes["lorun_bfloat16"] < table.peak_bytes["lorun"]


def test_each_variant_has_its_precision(experiment):
    precisions = {name: for_variant(experiment, name, CPU).training.precision for name in ("lorun", "lorun_bfloat16")}
    assert precisions == {"lorun": "float32", "lorun_bfloat16": "bfloat16"}
    assert for_variant(experiment, "lorun", torch.device("cuda")).training.precision == "auto"


def test_a_dry_run_is_judged_by_its_seconds():
    planned = pd.DataFrame({"profile": ["a", "b"], "jobs": [10_015] * 2, "seconds": [29.0, 31.0]})
    assert commands.judge_dry_run(planned).verdict.tolist() == ["pass", "miss"]


def test_the_workflow_is_planned():
    quick = PROJECT / "config" / "quick.yaml"
    table = commands.measure_dry_run(quick, PROJECT, repeats=1, seeds=1)
    assert table.seconds[0] > 0
    assert table.jobs[0] > sum(experiment.seed == 0 for experiment in load_profile(quick).experiments())
    with pytest.raises(LorunError, match=r"dry run of the workflow: exit status 1"):
        commands.measure_dry_run(quick, PROJECT, repeats=1, seeds=0)


def test_backward_passes_are_timed_both_ways(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "workflow")
    import bench_backward as backward

    monkeypatch.setattr(backward, "WIDTHS", {16: 8, 32: 8})
    monkeypatch.setattr(backward, "GAMMAS", (5,))
    monkeypatch.setattr(backward, "_CACHE", 10)
    table = backward.measure(2)
    assert len(table) == 4
    assert set(table.chosen) == {"low_rank", "full"}
    assert (table.low_rank_seconds > 0).all()
    assert (table.full_seconds > 0).all()
