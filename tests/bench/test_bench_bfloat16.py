"""Trainings in float32 and in bfloat16, and the interval of their difference."""

import pandas as pd
import pytest
from tiny import PROJECT


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "workflow")
    import bench_bfloat16

    return bench_bfloat16


def test_pairs_of_trainings(bench, tiny_profile_file, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "SEEDS", 2)
    monkeypatch.setattr(bench, "SHARE", 0.5)
    table = bench.measure(tiny_profile_file, data=tiny_data, runs=tmp_path / "runs")
    assert len(table) == 2 * 2 * 2
    assert not table.duplicated(["task", "method", "seed", "precision"]).any()
    assert set(table.steps) == {4}  # with those of the base
    scores = table.pivot(index=["method", "seed"], columns="precision", values="validation_psnr")
    assert (scores.float32 != scores.bfloat16).any()
    assert ((scores.float32 - scores.bfloat16).abs() < 1).all()
    assert bench.differences(table).method.tolist() == ["block_k", "lorun", "all"]


def test_the_interval_of_paired_differences(bench):
    """Differences of 0.1, 0.2 and 0.3 dB: mean 0.2, half width 4.3027 x 0.1 / sqrt(3)."""
    rows = [
        {"task": "cs", "method": "lorun", "seed": seed, "precision": p, "validation_psnr": psnr, "seconds": seconds}
        for seed in range(3)
        for p, psnr, seconds in (("float32", 20.0 + seed, 4.0), ("bfloat16", 20.1 + 1.1 * seed, 2.0))
    ]
    found = bench.differences(pd.DataFrame(rows)).iloc[0]
    assert (found.pairs, found.difference, found.time_ratio, found.seed_sd) == (3, 0.2, 0.5, 1.0)
    assert (found.low, found.high) == pytest.approx((0.2 - 0.2484, 0.2 + 0.2484), abs=1e-4)
