"""Predicted steps: the same bytes as on real tensors, and what follows from them."""

import itertools
import json
from functools import cache, partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import NETWORKS, with_spec, with_training

from lorun.accounting import prediction
from lorun.accounting.account import account
from lorun.accounting.live_bytes import cuda_training_peak, training_step_bytes
from lorun.accounting.parameters import count_parameters
from lorun.accounting.prediction import (
    first_that_fits,
    largest_batch,
    largest_batches,
    predict_steps,
    resized,
    step_build,
)
from lorun.accounting.report import render
from lorun.denoisers.spectral import SpectralTransformerConfig
from lorun.denoisers.unet import UNetConfig
from lorun.errors import LorunError
from lorun.methods import Trained
from lorun.system import build_system

CPU = torch.device("cpu")
FLOAT = 4  # bytes

MORE = {
    ("adam", "float32"): {},
    ("adam", "bfloat16"): {"ema": 0.9, "clip_norm": None},
    ("adamw", "float32"): {"ema": 0.9, "loss": "l1", "weight_decay": 0.01},
    ("adamw", "bfloat16"): {"loss": "l1"},
}


@pytest.fixture
def kept(monkeypatch):
    """Only the step without recomputation is predicted, which takes a third of the time."""
    monkeypatch.setattr(prediction, "recompute_choices", lambda network: ("none",))


def tiny(profile, method, **training):
    experiment = profile.resolve("cs", "r25", method, 0)
    return with_training(experiment, **training) if training else experiment


STEPS = sorted({*zip(NETWORKS, itertools.cycle(MORE)), *(("lorun", step) for step in MORE), ("block_k", list(MORE)[1])})


@pytest.mark.parametrize(("method", "step"), STEPS, ids=str)
def test_predicted_bytes_are_those_of_real_tensors(tiny_profile, method, step):
    optimizer, precision = step
    experiment = tiny(tiny_profile, method, optimizer=optimizer, precision=precision, **MORE[step])
    if method != "block1":
        experiment = resized(experiment, stages=2)
    predicted = predict_steps(experiment, 2, (16, 16))
    assert predicted == predict_steps(experiment, 2, (16, 16), fake=False)
    assert list(predicted) == ["none", "stage", "half_stage"]
    assert (predicted["stage"].total < predicted["none"].total) == (method != "block1")
    assert predicted["half_stage"].total < predicted["stage"].total


@pytest.mark.parametrize(("method", "precision"), [("shared_sigma", "float32"), ("lorun", "bfloat16")])
def test_predicted_bytes_of_a_transformer_are_those_of_real_tensors(tiny_profile, method, precision):
    spectral = SpectralTransformerConfig(width=4, levels=2)
    experiment = with_spec(tiny(tiny_profile, method, precision=precision), denoiser=spectral, stages=2)
    assert predict_steps(experiment, 2, (16, 16)) == predict_steps(experiment, 2, (16, 16), fake=False)


def test_a_step_of_many_weights_and_few_pixels(tiny_profile):
    """Gradients, states and averages, hardly any activations: there is nothing to recompute."""
    wide = UNetConfig(width=32, levels=3, blocks=1)
    for training in ({}, {"ema": 0.9, "optimizer": "adamw", "weight_decay": 0.01}):
        experiment = with_spec(tiny(tiny_profile, "block_k", **training), denoiser=wide, stages=2)
        predicted = predict_steps(experiment, 1, (8, 8))
        assert predicted == predict_steps(experiment, 1, (8, 8), fake=False)
        numbers = count_parameters(build_system(experiment))
        states = 3 if "ema" in training else 2
        held = FLOAT * (numbers.total + (states + 1) * numbers.trainable)
        assert 0.85 * held < predicted["none"].total < 1.15 * held
        assert predicted["stage"].total > 0.9 * predicted["none"].total


def test_both_are_counted_on_one_network_as_on_two(tiny_profile):
    experiment = resized(tiny(tiny_profile, "lorun"), stages=2)
    predicted = predict_steps(experiment, 2, (16, 16))
    for recompute in ("none", "stage"):
        alone = training_step_bytes(step_build(experiment, (16, 16), recompute), (2, 1, 16, 16), experiment.training)
        assert predicted[recompute] == alone, recompute


def test_averaged_weights_are_a_copy_of_everything(tiny_profile, kept):
    plain, averaged = (predict_steps(tiny(tiny_profile, "lorun", ema=ema), 2, (16, 16))["none"] for ema in (None, 0.9))
    numbers = count_parameters(build_system(tiny(tiny_profile, "lorun"))).total
    copy = FLOAT * (numbers + 1) + 8  # a buffer that any physics of deepinv has; how often it was averaged, int64
    assert averaged.optimiser - plain.optimiser == copy
    assert averaged.total - plain.total == copy


def test_recomputing_keeps_one_stage(tiny_profile):
    """Twice the stages add their inputs only, an image each, and their weights."""
    few, many = (predict_steps(resized(tiny(tiny_profile, "shared"), stages=k), 2, (16, 16)) for k in (3, 5))
    image = 2 * 16 * 16 * FLOAT
    assert many["none"].activations - few["none"].activations > 2 * 10 * image
    # z, A x - y and the like of a stage stay within a few images, whatever K is.
    assert many["stage"].activations - few["stage"].activations == 2 * image


def test_half_of_the_batch_takes_half_of_the_activations(tiny_profile):
    predicted = predict_steps(resized(tiny(tiny_profile, "lorun"), stages=3), 8, (16, 16))
    assert 0.5 < predicted["half_stage"].activations / predicted["stage"].activations < 0.6


def test_a_baseline_has_no_stages_to_recompute(tiny_profile_file, tiny_profile):
    shared = tiny(tiny_profile, "shared", recompute="stage").spec
    spec = Trained(name="ista_net_plus", reference="ista_net_plus", training=shared.training, data=shared.data)
    ista = tiny_profile.experiment("cs", "r25", "shared", 0).model_copy(update={"spec": spec})
    predicted = predict_steps(ista, 2, (16, 16))
    assert predicted.keys() == {"none"}
    assert predicted == predict_steps(ista, 2, (16, 16), fake=False)
    assert account(ista, CPU, latency=False)["step_recompute"] == "none"


# Batches that fit


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.integers(0, 400), st.integers(1, 20))
def test_the_largest_batch_that_fits(increments, budget, last):
    """Against trying all, on any peak that does not fall and grows for ever."""
    peaks = [10, *itertools.accumulate(increments, initial=10)]

    def peak(batch):
        return peaks[batch] if batch < len(peaks) else peaks[-1] + last * (batch - len(peaks) + 1)

    fitting = itertools.takewhile(lambda batch: peak(batch) <= budget, itertools.count(1))
    assert largest_batch(peak, budget) == max(fitting, default=0)


def test_constant_growth_needs_few_counts():
    counted = []

    def peak(batch):
        counted.append(batch)
        return 1_000_000 + 3_000 * batch

    assert largest_batch(peak, 100_000_000) == 33_000
    assert len(counted) <= 4


@pytest.mark.parametrize("method", ["block_k", "lorun"])
def test_one_more_patch_does_not_fit(tiny_profile, method, monkeypatch):
    experiment = resized(tiny(tiny_profile, method), stages=2)
    budget = 1_000_000
    predict = cache(partial(predict_steps, experiment, patch=(16, 16)))
    monkeypatch.setattr(prediction, "predict_steps", lambda _, batch, patch: predict(batch))
    for recompute, batch in largest_batches(experiment, 16, budget).items():
        assert predict(batch)[recompute].total <= budget
        assert predict(batch + 1)[recompute].total > budget


def test_least_recomputation_first(tiny_profile):
    predicted = predict_steps(tiny(tiny_profile, "block_k"), 2, (16, 16))
    assert first_that_fits(predicted, predicted["none"].total) == "none"
    assert first_that_fits(predicted, predicted["none"].total - 1) == "stage"
    assert first_that_fits(predicted, predicted["stage"].total - 1) == "half_stage"
    assert first_that_fits(predicted, predicted["half_stage"].total - 1) is None


# Other sizes, and the account


def test_other_sizes_are_accounted(tiny_profile):
    experiment = tiny(tiny_profile, "block_k")
    other = resized(experiment, batch=3, patch=24, image=32, stages=5, training={"precision": "bfloat16"})
    record = account(other, CPU, latency=False)
    assert (record["step_batch"], record["step_patch"], record["image"], record["stages"]) == (3, 24, 32, 5)
    assert record["step_precision"] == "bfloat16"
    assert record["step_total"] == predict_steps(other, 3, (24, 24))["none"].total
    assert other.account_key != experiment.account_key
    assert resized(experiment) == experiment


@pytest.mark.parametrize("method", ["block1", "linear_mmse", "pretrain"])
def test_stages_are_for_methods_of_stages(tiny_profile, method):
    with pytest.raises(LorunError, match=f"'{method}' has no stages to choose; block_k, shared, "):
        resized(tiny(tiny_profile, method), stages=2)


@pytest.mark.parametrize(
    ("training", "column"),
    [
        ({}, "kept"),
        ({"recompute": "stage"}, "recomputed"),
        ({"recompute": "auto"}, "kept"),  # without a budget it depends on a GPU
        ({"recompute": "auto", "memory_budget": 1.0}, "kept"),
        ({"recompute": "auto", "memory_budget": 0.25}, "recomputed"),
    ],
)
def test_the_account_has_the_step_as_trained_and_either_way(tiny_profile, training, column):
    record = account(tiny(tiny_profile, "block_k", **training), CPU, latency=False)
    assert record["step_recompute"] == {"kept": "none", "recomputed": "stage"}[column]
    names = ("total", "phase", "parameters", "gradients", "optimiser", "activations", "other")
    assert [record[f"step_{name}"] for name in names] == [record[f"{column}_{name}"] for name in names]
    assert record["recomputed_total"] < record["kept_total"]


@pytest.mark.parametrize("training", [{"recompute": "half_stage"}, {"recompute": "auto", "memory_budget": 0.01}])
def test_the_account_of_half_a_stage(tiny_profile, training):
    record = account(tiny(tiny_profile, "block_k", **training), CPU, latency=False)
    assert record["step_recompute"] == "half_stage"
    assert record["step_total"] < record["recomputed_total"]


@pytest.mark.parametrize(
    "training",
    [{"optimizer": "adamw"}, {"clip_norm": None}, {"ema": 0.9}, {"precision": "bfloat16"}, {"recompute": "stage"}],
    ids=str,
)
def test_what_changes_a_step_changes_where_its_account_lies(tiny_profile, training):
    assert tiny(tiny_profile, "shared", **training).account_key != tiny(tiny_profile, "shared").account_key


def test_what_changes_no_step_does_not(tiny_profile):
    others = tiny(tiny_profile, "shared", learning_rate=1e-3, steps=9, batch=7, validate_every=3)
    assert others.account_key == tiny(tiny_profile, "shared").account_key


def test_the_report_has_every_kind_in_megabytes(tiny_profile):
    record = account(tiny(tiny_profile, "block_k"), CPU, latency=False)
    lines = render(record, {"none": 12, "stage": 34}).splitlines()
    assert lines[0].split("  ")[0] == "MB at the peak"
    cells = {line.split()[0]: line.split()[1:] for line in lines[1:-1]}
    assert cells["total"] == [f"{record[f'{part}_total'] / 1e6:.2f}" for part in ("kept", "recomputed", "inference")]
    assert cells["activations"][1] == f"{record['recomputed_activations'] / 1e6:.2f}"
    assert lines[-1].split() == ["largest", "batch", "12", "34"]
    json.dumps(record)


def test_the_report_of_what_is_not_trained(tiny_profile):
    record = account(tiny(tiny_profile, "linear_mmse"), CPU, latency=False)
    assert render(record).splitlines()[0].split() == ["MB", "at", "the", "peak", "inference"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("recompute", ["none", "stage"])
@pytest.mark.parametrize("method", ["block_k", "shared", "lorun"])
def test_a_gpu_allocates_what_is_predicted(tiny_profile, method, recompute, precision):
    experiment = tiny(tiny_profile, method, precision=precision)
    experiment = resized(with_spec(experiment, denoiser=UNetConfig(width=32, levels=3, blocks=1)), stages=5)
    predicted = predict_steps(experiment, 16, (64, 64))[recompute].total
    measured = cuda_training_peak(step_build(experiment, (64, 64), recompute), (16, 1, 64, 64), experiment.training)
    assert measured == pytest.approx(predicted, rel=0.1)
