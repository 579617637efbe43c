"""Bytes against the number of stages."""

import pytest
from tiny import PROFILE

from lorun.accounting.building import inference_build
from lorun.accounting.live_bytes import inference_bytes
from lorun.accounting.parameters import count_parameters
from lorun.accounting.prediction import predict_steps, resized
from lorun.bench import scaling
from lorun.bench.scaling import STRATEGIES, count, write_figure
from lorun.bench.variants import benchmarked, with_strategy
from lorun.profiles import Profile
from lorun.system import build_system


@pytest.fixture(scope="module")
def experiment():
    return benchmarked(Profile.model_validate(PROFILE))


@pytest.fixture(scope="module")
def table(experiment):
    return count(experiment, 2)


def test_a_row_for_every_strategy_number_of_stages_and_recomputation(experiment, table):
    assert set(table.method) == set(STRATEGIES)
    assert len(table) == len(STRATEGIES) * 2 * 3
    assert not table.duplicated(["method", "stages", "recompute"]).any()
    assert not table.isna().any().any()
    assert {"commit", "dirty", "versions"} <= set(table.columns)
    size = experiment.accounting
    assert (table[["task", "setting", "batch", "patch", "image"]] == ["cs", "r25", 2, size.patch, size.image]).all(
        axis=None
    )


@pytest.mark.parametrize("method", ["shared_sigma", "lorun", "lorun_transfer", "lorun_random"])
def test_a_row_counts_what_the_account_counts(experiment, table, method):
    """All kinds of LoRun are the same network with other weights."""
    experiment = resized(with_strategy(experiment, method), stages=2)
    counted = "lorun" if method.startswith("lorun") else method
    rows = table[(table.method == counted) & (table.stages == 2)].set_index("recompute")
    for recompute, step in predict_steps(experiment, 2, (16, 16)).items():
        assert rows.step_total[recompute] == step.total
        assert rows.step_activations[recompute] == step.activations
    assert rows.inference_total["none"] == inference_bytes(inference_build(experiment), (1, 1, 24, 24)).total
    parameters = count_parameters(build_system(experiment))
    assert rows.parameters_network["stage"] == parameters.network
    assert rows.parameters_trainable["stage"] == parameters.trainable
    assert rows.parameters_held["stage"] == parameters.total


def test_ratios_are_to_block_k_with_as_many_stages_and_the_same_recomputation(table):
    table = table.set_index(["method", "stages", "recompute"]).sort_index()
    for name in ("parameters_network", "step_total", "inference_total"):
        assert (table.loc["block_k", f"{name}_to_block_k"] == 1).all()
        for case in ((1, "none"), (2, "stage"), (2, "half_stage")):
            ratio = table.loc[("lorun", *case), name] / table.loc[("block_k", *case), name]
            assert table.loc[("lorun", *case), f"{name}_to_block_k"] == pytest.approx(ratio, abs=1e-4)


def test_the_figure_is_the_same_each_time(table, tmp_path):
    for name in ("a.png", "b.png"):
        write_figure(table, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_sizes_beyond_any_memory_can_be_counted(experiment, monkeypatch):
    monkeypatch.setattr(scaling, "STRATEGIES", ("block_k",))
    assert count(resized(experiment, batch=2**14, patch=1024, image=8192), 1).step_total.min() > 1e12
