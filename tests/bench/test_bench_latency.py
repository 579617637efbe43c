"""Latencies that are measured in turns, and whether twins agree."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from tiny import PROFILE

from lorun.bench import latency
from lorun.bench.latency import AGAIN, COLUMNS, agreed, measure, read_latencies
from lorun.errors import LorunError
from lorun.results.store import write_table

STRATEGIES = ["block1", "lorun", "lorun_random"]


def table(*rows):
    return pd.DataFrame(rows, columns=["method", "same_network", "median_ms"])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("lorun", None, 10.0), ("block_k", None, 20.0)], False),  # nothing to judge by
        ([("lorun", None, 10.0), ("lorun_random", "lorun", 10.4)], True),
        ([("lorun", None, 10.0), ("lorun_random", "lorun", 10.6)], False),
        ([("lorun", None, 10.0), ("lorun_random", "lorun", 9.4)], False),
        ([("lorun", None, 10.0), ("lorun_random", "lorun", 10.1), ("lorun (again)", "lorun", 12.0)], False),
        ([], False),
    ],
)
def test_all_twins_must_agree_within_five_percent(rows, expected):
    assert agreed(table(*rows)) is expected


@pytest.fixture
def profile_file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**PROFILE, "tasks": {"cs": {**PROFILE["tasks"]["cs"], "strategies": STRATEGIES}}}))
    return path


def test_every_method_is_timed_in_turns_and_twins_are_found(profile_file, monkeypatch):
    asked = {}

    def take_turns(jobs, repeats, title):
        asked.update(jobs)
        assert (repeats, title) == (3, "cs/r25")
        return pd.DataFrame({method: [0.001 * (1 + at), 0.002, 0.003] for at, method in enumerate(jobs)})

    monkeypatch.setattr(latency, "take_turns", take_turns)
    found = measure(profile_file, repeats=3, threads=1)
    assert list(found.columns) == list(COLUMNS)
    assert list(found.method) == [*STRATEGIES, "linear_mmse", "lorun (again)"] == list(asked)
    twins = found.dropna(subset="same_network").set_index("method").same_network.to_dict()
    assert twins == {"lorun_random": "lorun", "lorun" + AGAIN: "lorun"}
    assert list(found.median_ms[:2]) == [2.0, 2.0]
    assert set(found.image) == {24}


def test_a_job_reconstructs_an_image_of_the_account_s_size(profile_file, monkeypatch):
    seen = []
    built = latency.inference_build

    def build(experiment):
        network, physics = built(experiment)()
        network.register_forward_hook(lambda *call: seen.append(call[-1].shape))
        return lambda: (network, physics)

    monkeypatch.setattr(latency, "inference_build", build)
    latency._prepare(profile_file, "cs", "r25", "lorun", 1)()
    assert seen == [(1, 1, 24, 24)]


def test_only_the_rows_of_the_profile_are_read(tmp_path):
    assert read_latencies(tmp_path / "none.csv", "quick").empty
    path = tmp_path / "latency.csv"
    pd.DataFrame({"profile": ["quick", "desk"]}).reindex(columns=list(COLUMNS)).to_csv(path, index=False)
    assert list(read_latencies(path, "desk").profile) == ["desk"]


@pytest.mark.parametrize("name", ["10", "2.5", "1e3", "NA", "null", "True"])
def test_names_that_look_like_values_stay_text(tmp_path, name):
    path = tmp_path / "latency.csv"
    write_table(path, pd.DataFrame([{"profile": name, "setting": name, "median_ms": 1.5}], columns=list(COLUMNS)))
    (line,) = read_latencies(path, name).to_dict("records")
    assert (line["setting"], line["median_ms"]) == (name, 1.5)


@pytest.mark.parametrize("content", ["", "profile,task\nquick,cs\n"])
def test_a_damaged_table_is_named(tmp_path, content):
    (tmp_path / "latency.csv").write_text(content)
    with pytest.raises(LorunError, match=r"latency\.csv: not a table of `lorun latency`"):
        read_latencies(tmp_path / "latency.csv", "quick")
