"""The paper's sizes need a GPU to be trained, and none to be built, stepped once and accounted."""

from functools import cache

import pytest
import torch
from tiny import PROJECT, with_spec

from lorun.accounting import prediction
from lorun.accounting.account import account
from lorun.accounting.fake import fake_tensors
from lorun.profiles import load_profile
from lorun.results.published import lorun_claims
from lorun.system import build_system

PAPER = load_profile(PROJECT / "config/paper.yaml")


SETTINGS = {"cs": "r25", "cassi": "sim", "sr": "x2"}
NAMES = {"cs": "CS", "cassi": "CASSI", "sr": "SR"}


@cache
def parameters(task, method, **adapters):
    """Of a network, in millions. It is built without its memory."""
    experiment = PAPER.experiment(task, SETTINGS[task], method, 0)
    if adapters:
        experiment = with_spec(experiment, adapters=experiment.spec.adapters.model_copy(update=adapters))
    assert experiment.stages == lorun_claims(task)["stages"]
    with fake_tensors():
        return sum(parameter.numel() for parameter in build_system(experiment).network.parameters()) / 1e6


@pytest.mark.parametrize(
    ("task", "method", "published", "tolerance"),
    [
        ("cs", "block_k", "block9_params_M", 0.004),
        ("cs", "lorun", "params_M", 0.001),
        ("cassi", "lorun", "params_M", 0.03),
        ("sr", "block_k", "block9_params_M", 0.001),
        ("sr", "lorun", "params_M", 0.1),  # no layout gives the paper's count
    ],
)
def test_sizes_are_those_of_the_paper(task, method, published, tolerance):
    assert parameters(task, method) == pytest.approx(lorun_claims(task)[published], rel=tolerance)


def test_adapters_are_those_of_the_paper():
    for task in PAPER.tasks.values():
        assert (task.lora.layout, task.lora.gamma) == ("loralib", 10)


@pytest.mark.parametrize("task", SETTINGS)
def test_the_table_of_sizes_is_true(task):
    claims = lorun_claims(task)
    counts = [parameters(task, "block_k"), parameters(task, "lorun"), parameters(task, "lorun", layout="peft")]
    block_9 = claims.get("block9_params_M")
    cells = [f"{count:.2f}" for count in counts] + [str(block_9 or "not reported"), str(claims["params_M"])]
    assert f"| {NAMES[task]} | {' | '.join(cells)} |" in (PROJECT / "docs/method.md").read_text()


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


def test_is_accounted_without_its_memory(monkeypatch):
    # Steps that recompute take two thirds of the time.
    monkeypatch.setattr(prediction, "recompute_choices", lambda network: ("none",))
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
