"""Planted regressions on the committed rows, and in truly trained networks: each is caught, and noise alone is not."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from planted import SAME_SEEDS, trained_anew, with_table
from tiny import PROFILE
from torch import Tensor

from lorun.accounting.account import account
from lorun.evaluation import protocols
from lorun.evaluation.reconstruct import evaluate
from lorun.gate import Finding
from lorun.profiles import Profile, load_profile
from lorun.results.paths import EVALUATION, account_path
from lorun.results.result_set import write_result_set
from lorun.results.store import ResultSet, read_result_set, write_evaluation
from lorun.training import train
from lorun.unfolding import UnfoldingNetwork

CPU = torch.device("cpu")

Failures = Callable[..., list[Finding]]
Make = Callable[..., ResultSet]


@pytest.fixture(params=range(8))
def random(request: pytest.FixtureRequest) -> np.random.Generator:
    return np.random.default_rng(request.param)


@pytest.mark.parametrize("task", ["cs", "cassi"])
def test_a_tenth_of_a_db_lost_by_equal_code(
    real: ResultSet, failures: Failures, random: np.random.Generator, task: str
) -> None:
    """On a CPU equal code gives equal bytes, so whatever moved was moved by the change."""
    found = failures(real, trained_anew(real, random, 0.0, loss=0.1, task=task))
    assert {one.check for one in found} == {"scores"}
    assert any(one.subject.startswith(f"{task}, all 6 methods") and "PSNR" in one.message for one in found)
    assert all(one.subject.startswith(task) for one in found)


def test_noise_alone_from_the_same_seeds(real: ResultSet, failures: Failures) -> None:
    """The gate raises a false alarm in 5 % of cases at most: of eight, one may be."""
    anew = (trained_anew(real, np.random.default_rng(seed), SAME_SEEDS) for seed in range(8))
    assert sum(bool(failures(real, candidate)) for candidate in anew) <= 1


def test_a_row_dropped(real: ResultSet, failures: Failures, random: np.random.Generator) -> None:
    index = random.integers(len(real.rows))
    [found] = failures(real, replace(real, rows=real.rows.drop(index=index)))
    row = real.rows.loc[index]
    assert found.check == "rows"
    assert found.subject == f"{row.task}/{row.setting}/{row.method}"
    words = [row.dataset, f"seed {row.seed}", row.image, row.protocol, row.metric]
    if pd.notna(row.degradation):
        words.insert(3, f"degradation {row.degradation}")
    assert f"rows missing: {', '.join(words)}" in found.message


PROTOCOLS = [
    ("cs", "cs_float_y", "cs_round_y"),
    ("cs", "cs_round_y", "cs_truncate_y"),
    ("cassi", "cassi_mst_uint8", "cassi_float_x255"),
    ("cassi", "cassi_dpu", "cassi_float_x255"),  # the SSIM alone differs, by 0.001
    ("cassi", "cassi_float_x255", "cassi_torch_psnr"),
]


def test_a_protocol_changed_under_its_name(real: ResultSet, failures: Failures, random: np.random.Generator) -> None:
    """The committed rows score the same reconstructions under several protocols, so the values of one under the name of
    another are what a changed rounding gives. All networks are trained anew too: only an untrained method shows it.
    """
    task, name, other = PROTOCOLS[random.integers(len(PROTOCOLS))]
    anew = trained_anew(real, random, SAME_SEEDS)
    rows = anew.rows
    key = ["task", "dataset", "setting", "method", "seed", "image", "metric"]
    values = rows[rows.protocol == other].set_index(key)["value"]
    own = pd.MultiIndex.from_frame(rows[key])
    swapped = (rows.protocol == name) & own.isin(values.index)
    value = rows.value.where(~swapped, values.reindex(own).to_numpy())
    found = [one for one in failures(real, replace(anew, rows=rows.assign(value=value))) if one.check == "protocol"]
    assert found
    assert {one.subject for one in found} == {f"{task}/{name}"}
    assert all(re.search("weights of .* are the same: .* changed under the same name", one.message) for one in found)


def test_an_extra_activation_kept(real: ResultSet, failures: Failures, random: np.random.Generator) -> None:
    """One map of one channel in one stage: 16 patches of 64 x 64, or one of them, in float32."""
    accounts = real.accounting.copy()
    trained = accounts[accounts.step_total.notna()]
    index = trained.index[random.integers(len(trained))]
    extra = int(trained.step_batch[index]) * int(trained.step_patch[index]) ** 2 * 4
    for column in ("step_total", "step_activations", "kept_total", "kept_activations"):
        accounts.loc[index, column] += extra
    found = failures(real, replace(real, accounting=accounts))
    assert {one.check for one in found} == {"bytes"}
    assert {one.subject for one in found} == {"/".join(trained.loc[index, ["task", "setting", "method"]])}
    assert f"(+{extra:,}, " in found[0].message


@pytest.fixture(scope="module")
def make(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Really trains, scores and counts LoRun with three stages of the tiny profile; returns the result set.

    Runs that are already trained in a folder are only scored and counted.
    """
    path = tmp_path_factory.mktemp("gate") / "tiny.yaml"
    cs = {**PROFILE["tasks"]["cs"], "strategies": ["lorun"]}
    path.write_text(yaml.safe_dump({**PROFILE, "tasks": {"cs": cs}}))
    profile = load_profile(path)

    def make(runs: Path | None = None) -> ResultSet:
        runs = runs or tmp_path_factory.mktemp("runs")
        for experiment in profile.experiments():
            if experiment.base is not None:
                train(experiment.base, runs=runs, data=tiny_data, device=CPU)
            train(experiment, runs=runs, data=tiny_data, device=CPU)
            evaluated = evaluate(experiment, runs=runs, data=tiny_data, device=CPU)
            write_evaluation(runs / experiment.folder / EVALUATION, *evaluated)
            account_path(runs, experiment).write_text(json.dumps(account(experiment, CPU, latency=False)))
        write_result_set(profile, runs, runs / "results", data=tiny_data)
        return read_result_set(runs / "results")

    return make


@pytest.fixture(scope="module")
def reference(make: Make) -> ResultSet:
    return make()


proximal_step = UnfoldingNetwork.proximal_step


def skipping(stage: int) -> Callable[[UnfoldingNetwork, Tensor, int, Tensor | None], Tensor]:
    """A proximal step that uses the next stage's adapter instead of that of `stage`."""

    def step(self: UnfoldingNetwork, z: Tensor, at: int, sigma: Tensor | None) -> Tensor:
        return proximal_step(self, z, (at + 1) % self.stages if at == stage else at, sigma)

    return step


def test_the_adapter_of_one_stage_truly_dead(
    make: Make, reference: ResultSet, failures: Failures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UnfoldingNetwork, "proximal_step", skipping(1))
    candidate = make()
    [found] = [one for one in failures(reference, candidate) if one.check == "stages"]
    assert found.subject == "cs/r25/lorun seed 0"
    assert "did not move: adapter of stage_2" in found.message


@pytest.mark.parametrize("stage", range(3))
def test_a_dead_adapter_of_any_stage(
    real: ResultSet,
    failures: Failures,
    stage: int,
    tiny_profile: Profile,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Truly trained, and put in the place of a training of the committed rows."""
    experiment = tiny_profile.experiment("cs", "r25", "lorun_random", 0)
    monkeypatch.setattr(UnfoldingNetwork, "proximal_step", skipping(stage))
    dead = train(experiment, runs=tmp_path, data=tiny_data, device=CPU).unmoved
    assert dead is not None
    run = "task == 'cs' and method == 'lorun' and seed == 1"
    candidate = with_table(real, "trainings", run, unmoved=len(dead), names=" ".join(dead))
    [found] = failures(real, candidate)
    assert found.check == "stages"
    assert found.message.endswith(f": adapter of stage_{stage + 1}")


def test_an_extra_activation_truly_kept(
    make: Make, reference: ResultSet, failures: Failures, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keeping(self: UnfoldingNetwork, z: Tensor, at: int, sigma: Tensor | None) -> Tensor:
        x = proximal_step(self, z, at, sigma)
        return x.exp().log() if at == 0 else x  # exp keeps what it gives, log what it gets: the same tensor

    monkeypatch.setattr(UnfoldingNetwork, "proximal_step", keeping)
    found = [one for one in failures(reference, make()) if one.check == "bytes"]
    assert any("training step: " in one.message for one in found)


def test_a_protocol_truly_changed(
    make: Make, reference: ResultSet, failures: Failures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert failures(reference, make(tmp_path)) == []  # equal code, trained twice
    own = protocols.PROTOCOLS["cs_float_y"]
    measures = tuple(replace(measure, window="gaussian11") for measure in own.measures)
    assert measures != own.measures
    monkeypatch.setitem(protocols.PROTOCOLS, "cs_float_y", replace(own, measures=measures))  # type: ignore[arg-type]
    found = failures(reference, make(tmp_path))  # the same weights
    assert {one.check for one in found} == {"protocol"}
    assert {one.subject for one in found} == {"cs/cs_float_y"}
    assert all("the weights of linear_mmse" in one.message for one in found)  # and of lorun, if the commit is clean
