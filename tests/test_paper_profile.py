"""The paper's sizes need a GPU to be trained, and none to be built, stepped once and accounted."""

import pytest
import torch
from tiny import PROJECT

from lorun.accounting.account import account
from lorun.profiles import load_profile
from lorun.results.published import lorun_claims
from lorun.system import build_system

PAPER = load_profile(PROJECT / "config/paper.yaml")


@pytest.mark.parametrize(("method", "published"), [("block_k", "block9_params_M"), ("lorun", "params_M")])
@pytest.mark.parametrize(("task", "setting"), [("cs", "r25"), ("sr", "x2")])
def test_sizes_are_within_2_percent_of_the_papers(task, setting, method, published):
    experiment = PAPER.experiment(task, setting, method, 0)
    network = sum(parameter.numel() for parameter in build_system(experiment).network.parameters())
    assert network / 1e6 == pytest.approx(lorun_claims(task)[published], rel=0.02)
    assert experiment.stages == lorun_claims(task)["stages"]


@pytest.mark.parametrize("method", ["block_k", "lorun", "ista_net_plus"])
def test_takes_a_training_step(method):
    system = build_system(PAPER.experiment("cs", "r10", method, 0))
    trained = [p for p in system.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in trained]
    optimizer = torch.optim.Adam(trained, lr=1e-4)
    x = torch.rand(1, 1, 32, 32)
    (system(x) - x).square().mean().backward()
    optimizer.step()
    assert sum(not torch.equal(p, old) for p, old in zip(trained, before, strict=True)) > len(trained) / 3


def test_is_accounted_without_its_memory():
    task = PAPER.tasks["cs"].accounting.model_copy(update={"latency_repeats": 0})
    records = {}
    for method in ("block_k", "lorun"):
        experiment = PAPER.experiment("cs", "r25", method, 0).model_copy(update={"accounting": task})
        records[method] = account(experiment, torch.device("cpu"))
    block_k, lorun = records["block_k"], records["lorun"]
    assert block_k["step_total"] > 800e6
    assert lorun["step_optimiser"] < 0.25 * block_k["step_optimiser"]
    assert lorun["inference_parameters"] < 0.4 * block_k["inference_parameters"]
    assert "latency_median_ms" not in lorun
