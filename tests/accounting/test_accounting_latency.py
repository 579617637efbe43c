"""Latency: what is called how often, and what is refused."""

import pytest
import torch
from torch import nn

from lorun.accounting.latency import reconstruction_latency
from lorun.errors import LorunError


class Identity(nn.Module):
    def A(self, x):
        return x


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3)
        self.calls = 0

    def forward(self, y, physics):
        assert not self.training
        assert not torch.is_grad_enabled()
        self.calls += 1
        return self.layer(y)


def test_one_call_more_than_repeats():
    network = Counting()
    latency = reconstruction_latency(network, Identity(), (1, 1, 16, 16), repeats=3, device="cpu")
    assert network.calls == 1 + 3
    assert latency.repeats == 3
    assert 0 < latency.min_ms <= latency.median_ms <= latency.max_ms
    assert latency.device
    assert latency.threads == torch.get_num_threads()


def test_no_repeats_is_an_error():
    with pytest.raises(LorunError, match="repeats is 0"):
        reconstruction_latency(Counting(), Identity(), (1, 1, 16, 16), repeats=0, device="cpu")


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LorunError, match="'cuda:0'"):
        reconstruction_latency(Counting(), Identity(), (1, 1, 16, 16), device="cuda:0")
