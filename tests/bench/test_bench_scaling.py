"""Bytes against the number of stages: what each row counts, and what is refused."""

import pytest
from tiny import PROFILE

from lorun.accounting import inference_bytes
from lorun.accounting.parameters import count_parameters
from lorun.accounting.prediction import inference_build, predict_steps, resized
from lorun.bench.scaling import count, sizes, stage_range, write_figure
from lorun.errors import LorunError, UnknownName
from lorun.methods import STRATEGIES
from lorun.profiles import Profile
from lorun.system import build_system


@pytest.fixture(scope="module")
def profile():
    return Profile.model_validate(PROFILE)


@pytest.fixture(scope="module")
def experiment(profile):
    return sizes(profile)


@pytest.fixture(scope="module")
def table(experiment):
    return count(experiment, range(1, 3))


def test_a_row_for_every_strategy_number_of_stages_and_recomputation(table):
    assert set(table.method) == set(STRATEGIES) - {"block1"}
    assert len(table) == 7 * 2 * 2
    assert not table.duplicated(["method", "stages", "recompute"]).any()
    assert not table.isna().any().any()
    assert {"commit", "dirty", "versions"} <= set(table.columns)


@pytest.mark.parametrize("method", ["shared_sigma", "lorun", "lorun_transfer", "lorun_random", "frozen"])
def test_a_row_counts_what_the_account_counts(experiment, table, method):
    """LoRun's kinds are one network with other values, so one of them is counted: here the others are, too."""
    of = resized(experiment.model_copy(update={"method": method}), stages=2)
    rows = table[(table.method == method) & (table.stages == 2)].set_index("recompute")
    steps = predict_steps(of, 2, 16)
    for recompute, step in steps.items():
        assert rows.step_total[recompute] == step.total
        assert rows.step_activations[recompute] == step.activations
    assert rows.inference_total["none"] == inference_bytes(inference_build(of), (1, 1, 24, 24)).total
    parameters = count_parameters(build_system(of))
    assert rows.parameters_network["stage"] == parameters.network
    assert rows.parameters_trainable["stage"] == parameters.trainable
    assert rows.parameters_held["stage"] == parameters.total


def test_ratios_are_to_block_k_with_as_many_stages_and_the_same_recomputation(table):
    by = table.set_index(["method", "stages", "recompute"])
    for name in ("parameters_network", "step_total", "inference_total"):
        ratio = by.loc[("lorun", 2, "stage"), name] / by.loc[("block_k", 2, "stage"), name]
        assert by.loc[("lorun", 2, "stage"), f"{name}_to_separate"] == pytest.approx(ratio, abs=1e-4)
        assert (table[table.method == "block_k"][f"{name}_to_separate"] == 1).all()


def test_the_sizes_are_those_of_the_profile(profile, experiment, table):
    size = profile.tasks["cs"].accounting
    assert set(table.batch) == {size.batch}
    assert set(table.patch) == {size.patch}
    assert set(table.image) == {size.image}
    assert (experiment.task, experiment.setting) == ("cs", "r25")


def test_the_figure_is_the_same_each_time(table, tmp_path):
    for name in ("a.png", "b.png"):
        write_figure(table, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("text", "stages"), [("1-20", range(1, 21)), ("9", range(9, 10)), ("4-4", range(4, 5))])
def test_ranges(text, stages):
    assert stage_range(text) == stages


@pytest.mark.parametrize("text", ["0-3", "5-4", "1-101", "nine", "", "1-", "-3", "1-2-3"])
def test_a_range_that_is_none_is_named(text):
    with pytest.raises(LorunError, match=f"stages '{text}'"):
        stage_range(text)


def test_unknown_places(profile):
    with pytest.raises(UnknownName, match="unknown task 'sr'"):
        sizes(profile, "sr")
    with pytest.raises(UnknownName, match="unknown setting 'r26'. Did you mean 'r25'"):
        sizes(profile, "cs", "r26")


def test_sizes_that_no_machine_holds(experiment):
    assert count(resized(experiment, batch=2**14, patch=1024, image=8192), [1]).step_total.min() > 1e12
