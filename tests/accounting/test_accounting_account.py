"""Parameters against counts by hand, and the record of a method as a whole."""

import json
from functools import cache

import pytest
import torch
import yaml
from tiny import PROFILE

from lorun.accounting.account import account
from lorun.accounting.parameters import Parameters, count_parameters
from lorun.methods import PRETRAIN
from lorun.profiles import Profile, load_profile
from lorun.results.summary import COUNTS
from lorun.system import build_system

K = 3
GAMMA = 30  # percent: ranks 1 of 1, ceil(1.2) = 2 of 4, ceil(2.4) = 3 of 8 channels

# 8 x 8 blocks at 25 %: m = 16. Phi is m x n, the initialiser n x m.
N, M = 64, 16
OPERATOR = M * N + N * M

# The U-Net of width 4 with 2 levels of 1 block: every convolution without bias, in * out * kernel numbers.
UNET = (
    1 * 4 * 9  # head
    + 2 * (4 * 4 * 9)  # encoder: a residual block at full resolution
    + 4 * 8 * 4  # down: 2 x 2
    + 2 * (8 * 8 * 9)  # body: a residual block at half resolution
    + 8 * 16 * 1  # up: 1 x 1, then a pixel shuffle
    + 2 * (4 * 4 * 9)  # decoder
    + 4 * 1 * 9  # tail
)
UNET_NOISE_MAP = 1 * 4 * 9  # the head has a second input channel


def unet_adapter(r1, r4, r8):
    """Numbers of one adapter, with ranks for layers whose narrower side has 1, 4 or 8 channels.

    Of rank r on a layer: A has in * kernel * r numbers, B has r * out.
    """
    return (
        (1 * 9 * r1 + r1 * 4)  # head
        + 2 * (4 * 9 * r4 + r4 * 4)  # encoder
        + (4 * 4 * r4 + r4 * 8)  # down
        + 2 * (8 * 9 * r8 + r8 * 8)  # body
        + (8 * 1 * r8 + r8 * 16)  # up
        + 2 * (4 * 9 * r4 + r4 * 4)  # decoder
        + (4 * 9 * r1 + r1 * 1)  # tail
    )


UNET_ADAPTER = unet_adapter(1, 2, 3)

# Three convolutions 1 -> 6 -> 6 -> 1 with bias; ranks 1, ceil(1.8) = 2 and 1, none for a bias.
CNN = (1 * 6 * 9 + 6) + (6 * 6 * 9 + 6) + (6 * 1 * 9 + 1)
CNN_NOISE_MAP = 1 * 6 * 9
CNN_ADAPTER = (1 * 9 * 1 + 1 * 6) + (6 * 9 * 2 + 2 * 6) + (6 * 9 * 1 + 1 * 1)

# The spectral transformer of width 4 with 2 levels of 1 block.


def spectral_block(width, heads):
    """(numbers that adapters change, numbers that they do not)"""
    attention = 4 * width**2  # query, key, value, out
    feed_forward = 2 * (width * 4 * width)
    depthwise = 9 * (2 * width + 4 * width)  # position, feed-forward
    vectors = 2 * (2 * width) + heads + width  # norms, temperatures, bias of out
    return attention + feed_forward, depthwise + vectors


def spectral_block_adapter(width, r):
    return 4 * (width * r + r * width) + 2 * (width * r + r * 4 * width)


SPECTRAL = (
    (1 * 4 * 9 + 4)  # head
    + 2 * sum(spectral_block(4, heads=1))  # encoder and decoder
    + 4 * 8 * 16  # down: 4 x 4
    + sum(spectral_block(8, heads=2))  # body
    + 8 * 16 * 1  # up
    + 4 * 1 * 9  # tail
)
SPECTRAL_ADAPTER = (
    (1 * 9 * 1 + 1 * 4)
    + 2 * spectral_block_adapter(4, 2)
    + (4 * 16 * 2 + 2 * 8)
    + spectral_block_adapter(8, 3)
    + (8 * 1 * 3 + 3 * 16)
    + (4 * 9 * 1 + 1 * 1)
)

SIZES = {
    "unet": (UNET, UNET_NOISE_MAP, UNET_ADAPTER),
    "cnn": (CNN, CNN_NOISE_MAP, CNN_ADAPTER),
    "spectral": (SPECTRAL, 1 * 4 * 9, SPECTRAL_ADAPTER),
}


def by_hand(method: str, base: int, noise_map: int, adapter: int) -> Parameters:
    """(operator, base, adapters, step sizes, other, trainable)"""
    return {
        "block1": Parameters(OPERATOR, base, 0, 1, 0, base + 1),
        PRETRAIN: Parameters(OPERATOR, base, 0, 1, 0, base + 1),
        "block_k": Parameters(OPERATOR, K * base, 0, K, 0, K * base + K),
        "shared": Parameters(OPERATOR, base, 0, K, 0, base + K),
        "shared_sigma": Parameters(OPERATOR, base + noise_map, 0, K, K, base + noise_map + K + K),
        "lorun": Parameters(OPERATOR, base, K * adapter, K, 0, K * adapter + K),
        "lorun_random": Parameters(OPERATOR, base, K * adapter, K, 0, K * adapter + K),
        "frozen": Parameters(OPERATOR, base, 0, K, 0, K),
        "linear_mmse": Parameters(OPERATOR, 0, 0, 0, 0, 0),
    }[method]


METHODS = ("block1", PRETRAIN, "block_k", "shared", "shared_sigma", "lorun", "lorun_random", "frozen", "linear_mmse")


def resolve(path, method, **changes):
    """The experiment of `method` in the tiny profile, with `changes` of the task's parts."""
    content = yaml.safe_load(path.read_text())
    task = content["tasks"]["cs"]
    for part, change in changes.items():
        task[part] = {**task.get(part, {}), **change} if isinstance(change, dict) else change
    path.write_text(yaml.safe_dump(content))
    return load_profile(path).experiment("cs", "r25", method, 0)


@pytest.fixture
def tiny_unet(tiny_profile_file):
    return lambda method, **changes: resolve(tiny_profile_file, method, lora={"gamma": GAMMA}, **changes)


@pytest.mark.parametrize("method", METHODS)
def test_unet_counts_are_those_by_hand(tiny_unet, method):
    assert count_parameters(build_system(tiny_unet(method))) == by_hand(method, *SIZES["unet"])


@pytest.mark.parametrize("method", ["block_k", "shared_sigma", "lorun"])
@pytest.mark.parametrize(
    "denoiser", [{"name": "cnn", "width": 6, "depth": 3}, {"name": "spectral", "width": 4, "levels": 2, "blocks": 1}]
)
def test_counts_of_other_denoisers_are_those_by_hand(tiny_profile_file, denoiser, method):
    content = yaml.safe_load(tiny_profile_file.read_text())
    content["tasks"]["cs"]["denoiser"] = denoiser
    tiny_profile_file.write_text(yaml.safe_dump(content))
    experiment = resolve(tiny_profile_file, method, lora={"gamma": GAMMA})
    assert count_parameters(build_system(experiment)) == by_hand(method, *SIZES[denoiser["name"]])


@pytest.mark.parametrize(
    ("gamma", "ranks"),
    [
        (10, (1, 1, 1)),
        (25, (1, 1, 2)),  # 1 and 2 exactly
        (26, (1, 2, 3)),
        (100, (1, 4, 8)),
    ],
)
def test_ranks_are_rounded_up(tiny_profile_file, gamma, ranks):
    experiment = resolve(tiny_profile_file, "lorun", lora={"gamma": gamma})
    assert count_parameters(build_system(experiment)).adapters == K * unet_adapter(*ranks)


def test_lorun_is_the_same_whichever_setting_its_base_is_of(transfer_profile):
    own, other = (transfer_profile.experiment("cs", "r10", method, 0) for method in ("lorun", "lorun_transfer"))
    records = [account(experiment, torch.device("cpu"), latency=False) for experiment in (own, other)]
    assert {name: records[0][name] for name in COUNTS} == {name: records[1][name] for name in COUNTS}


def test_the_size_of_the_network_leaves_the_operator_out(tiny_unet):
    counts = count_parameters(build_system(tiny_unet("lorun")))
    assert counts.network == UNET + K * UNET_ADAPTER + K
    assert counts.total == counts.network + OPERATOR


@pytest.mark.parametrize("method", ["lorun", "shared"])
def test_a_learned_matrix_is_trained_but_stays_part_of_the_operator(tiny_unet, method):
    fixed = by_hand(method, *SIZES["unet"])
    counts = count_parameters(build_system(tiny_unet(method, physics={"matrix": "learned"}, baselines=[])))
    assert counts.operator == M * N + N * N  # the initial estimate follows Phi, from the blocks' second moment
    assert counts.trainable == fixed.trainable + M * N
    assert counts.network == fixed.network


@cache
def tiny_record(method):
    """The account of a method of the tiny profile."""
    return account(Profile.model_validate(PROFILE).experiment("cs", "r25", method, 0), torch.device("cpu"))


@pytest.mark.parametrize("method", ["lorun", "linear_mmse"])
def test_the_record_is_deterministic_but_for_what_the_machine_decides(tiny_profile, method):
    first = tiny_record(method)
    second = account(tiny_profile.experiment("cs", "r25", method, 0), torch.device("cpu"))
    assert json.loads(json.dumps(first)) == first
    measured = {name for name in first if name.startswith(("latency_", "cuda_"))}
    assert {"latency_median_ms", "latency_device", "cuda_step_peak_bytes"} <= measured
    assert first.keys() == second.keys()
    assert {name: first[name] for name in first.keys() - measured} == {
        name: second[name] for name in second.keys() - measured
    }


def test_the_record_says_what_was_counted(tiny_profile):
    experiment = tiny_profile.experiment("cs", "r25", "lorun", 0)
    record = tiny_record("lorun")
    assert set(COUNTS) < record.keys()
    sizes = experiment.accounting
    assert (record["step_batch"], record["step_patch"], record["image"]) == (sizes.batch, sizes.patch, sizes.image)
    assert (record["stages"], record["m"], record["method"]) == (K, M, "lorun")
    counts = count_parameters(build_system(experiment))
    assert record["parameters_network"] == counts.network
    assert record["parameters_adapters"] == counts.adapters
    parts = ("parameters", "gradients", "optimiser", "activations", "other")
    assert record["step_total"] == sum(record[f"step_{part}"] for part in parts)
    # All numbers in float32; one more is a buffer that any physics of deepinv has.
    assert record["step_parameters"] == 4 * (counts.total + 1)
    assert record["config_hash"] == experiment.config_hash


def test_where_nothing_is_trained_the_step_is_null_and_the_rest_is_not():
    record = tiny_record("linear_mmse")
    given = {"step_batch", "step_patch"}
    of_the_step = {name for name in record if name.startswith("step_")} - given
    assert {"step_total", "step_gradients", "step_phase"} <= of_the_step
    assert all(record[name] is None for name in of_the_step)
    assert record["cuda_step_peak_bytes"] is None
    assert record["stages"] is None
    assert record["inference_total"] > 0
    assert record["flops"] == 2 * 9 * N * M  # 24 x 24 pixels: 9 blocks, each the initialiser times y


def test_without_repeats_no_latency_is_measured(tiny_unet):
    record = account(tiny_unet("block1", accounting={"latency_repeats": 0}), torch.device("cpu"))
    assert not [name for name in record if name.startswith("latency_")]


def test_padding_always_and_a_patch_that_is_no_multiple_of_the_block(tiny_profile_file):
    content = yaml.safe_load(tiny_profile_file.read_text())
    content["tasks"]["cs"]["physics"]["padding"] = "always"
    content["tasks"]["cs"]["accounting"] = {"batch": 2, "patch": 18, "image": 24, "latency_repeats": 1}
    tiny_profile_file.write_text(yaml.safe_dump(content))
    record = account(load_profile(tiny_profile_file).experiment("cs", "r25", "shared", 0), torch.device("cpu"))
    assert record["step_total"] > 0
    assert record["inference_total"] > 0
    assert record["latency_median_ms"] > 0


def test_a_method_whose_course_depends_on_values_is_counted_on_real_tensors(tiny_profile_file):
    content = yaml.safe_load(tiny_profile_file.read_text())
    content["tasks"]["cs"]["baselines"] = ["total_variation"]
    tiny_profile_file.write_text(yaml.safe_dump(content))
    record = account(load_profile(tiny_profile_file).experiment("cs", "r25", "total_variation", 0), torch.device("cpu"))
    assert (record["parameters_network"], record["step_total"]) == (0, None)
    pixels = 24 * 24
    assert record["flops"] > 2 * 60 * pixels * M  # at least A once in each of 60 iterations
    assert record["inference_total"] > 4 * 2 * pixels  # at least an image and its dual variable
