"""`lorun compare`: a network of one's own beside the committed rows, in a repository with made-up ones."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from made_up import write_runs
from output import Output
from scratch import git
from tiny import PROJECT

from lorun.profiles import load_profile
from lorun.profiles.trials import read_trials
from lorun.results.result_set import write_result_set
from lorun.results.store import read_evaluation, read_result_set

Compare = Callable[..., Output]


@pytest.fixture
def compare(lorun: Callable[..., Output], tiny_profile_file: Path, tiny_data: Path, tmp_path: Path) -> Compare:
    """Run it in a repository with the committed result set `tiny` of the methods block_k, shared and linear_mmse."""
    content = yaml.safe_load(tiny_profile_file.read_text())
    content["tasks"]["cs"] |= {"strategies": ["block_k", "shared"], "baselines": ["linear_mmse"]}
    tiny_profile_file.write_text(yaml.safe_dump(content))
    profile = load_profile(tiny_profile_file)
    write_result_set(profile, write_runs(profile, tmp_path / "made_up", "checks", "blobs"), tmp_path / "results/tiny")
    shutil.rmtree(tmp_path / "made_up")
    git(tmp_path, "init")
    (tmp_path / ".gitignore").write_text("/runs/\n/nets/\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "results")
    assert lorun("new", "baseline", "my_net", "--into", "nets").status == 0
    return lambda *words: lorun("compare", *words, "--profile", "tiny", "--data", tiny_data, "--device", "cpu")


def change(profile: Path, section: str, **keys: object) -> None:
    content = yaml.safe_load(profile.read_text())
    content["tasks"]["cs"][section] |= keys
    profile.write_text(yaml.safe_dump(content))


def row_of(method: str, printed: str) -> list[str]:
    [line] = [line for line in printed.splitlines() if line.startswith(f"| {method} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_network_gets_its_row_beside_the_committed_ones(compare: Compare, tmp_path: Path) -> None:
    result = compare("nets/my_net")
    assert result.status == 0, result.err
    assert "cs, tiny, r25, `cs_float_y`" in result.out
    committed, new = row_of("block_k", result.out), row_of("my_net", result.out)
    assert committed[-1] == row_of("shared", result.out)[-1] == "committed"
    assert new[-1] == "new"
    [verdict] = [line for line in result.out.splitlines() if line.startswith("my_net - block_k: ")]
    assert verdict.split(": ")[1] in ("better", "worse", "no difference shown")
    assert verdict.split(": ")[2].startswith(new[2])  # the difference and its interval
    assert "images: 2, seeds: 1" in verdict
    assert result.out.splitlines()[-1] == "Tables and profile: runs/compare/tiny-my_net"
    assert git(tmp_path, "status", "--porcelain") == ""
    found = read_result_set("runs/compare/tiny-my_net")
    before = read_result_set("results/tiny")
    assert found.rows[found.rows.method == "block_k"].equals(before.rows[before.rows.method == "block_k"])
    assert {*found.rows.method} == {"block_k", "shared", "linear_mmse", "my_net"}
    assert found.accounting.set_index("method").parameters_network["my_net"] > 0
    # Only the network was trained, and where `make reproduce` would look for it.
    assert [path.parts[3] for path in Path("runs").rglob("weights.safetensors")] == ["my_net"]


def test_it_is_done_once_and_the_scratch_profile_is_a_profile(
    compare: Compare, lorun: Callable[..., Output], tiny_data: Path
) -> None:
    first = compare("nets/my_net", "--out", "scratch")
    times = {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*") if path.is_file()}
    assert compare("nets/my_net", "--out", "scratch").out.endswith(first.out[first.out.index("\ncs, tiny, r25") :])
    assert {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*") if path.is_file()} == times
    words = ("--config", "scratch/profile.yaml", "--task", "cs", "--setting", "r25", "--method", "my_net")
    again = lorun("evaluate", *words, "--data", tiny_data, "--device", "cpu", "--out", "again.csv")
    assert again.status == 0
    [scores] = Path("scratch/scores").rglob("*.csv")
    assert read_evaluation(Path("again.csv"))[1].equals(read_evaluation(scores)[1])


def test_where_no_committed_row_applies_the_reference_is_run_as_well(compare: Compare, tmp_path: Path) -> None:
    result = compare("nets/my_net", "--ratio", 10, "--against", "linear_mmse")
    assert result.status == 0, result.err
    line = "cs/r10: no committed row of linear_mmse is of this configuration; it is run as well."
    assert line in result.err.splitlines()
    assert row_of("linear_mmse", result.out)[-1] == row_of("my_net", result.out)[-1] == "new"
    assert "| block_k" not in result.out
    assert "my_net - linear_mmse: " in result.out
    assert git(tmp_path, "status", "--porcelain") == ""


def test_another_test_set_trains_nothing_again_and_leaves_the_scores_of_the_run(
    compare: Compare, tiny_profile_file: Path
) -> None:
    assert compare("nets/my_net").status == 0
    [weights] = Path("runs").rglob("my_net/*/weights.safetensors")
    time = weights.stat().st_mtime_ns
    change(tiny_profile_file, "evaluation", keep=["blobs"])
    result = compare("nets/my_net", "--against", "linear_mmse")
    assert result.status == 0, result.err
    assert "cs/r25: no committed row of linear_mmse is of this configuration" in result.err
    assert weights.stat().st_mtime_ns == time
    assert not list(weights.parent.glob("evaluation.*"))


def test_it_is_tuned_like_the_others_and_the_choices_are_not_among_the_committed_ones(
    compare: Compare, tiny_profile_file: Path, tmp_path: Path
) -> None:
    grids = {"learning_rates": [1e-4, 1e-3, 1e-2], "adapter_rates": [1, 10, 100], "share": 0.5, "finalists": 1}
    change(tiny_profile_file, "training", tuning=grids, final_learning_rate=0)
    git(tmp_path, "commit", "--quiet", "-a", "-m", "tuned")
    result = compare("nets/my_net", "--against", "linear_mmse")
    assert result.status == 0, result.err
    assert "\ncs/r25/my_net\n" in result.out
    trials = read_trials(Path("runs/compare/tiny-my_net/tuned/tiny.csv"))
    assert [trial.method for trial in trials] == ["my_net"] * 3
    [chosen] = [trial.value for trial in trials if trial.chosen]
    found = read_result_set("runs/compare/tiny-my_net")
    profile = load_profile("runs/compare/tiny-my_net/profile.yaml")
    assert profile.experiment("cs", "r25", "my_net", 0).training.learning_rate == chosen
    assert list(found.runs[found.runs.method == "my_net"].run) == [profile.experiment("cs", "r25", "my_net", 0).key]
    assert git(tmp_path, "status", "--porcelain") == ""


def test_a_strategy_of_the_suite_is_trained_with_its_base(compare: Compare) -> None:
    result = compare("lorun", "--against", "linear_mmse")
    assert result.status == 0, result.err
    assert row_of("lorun", result.out)[-1] == "new"
    assert {path.parts[3] for path in Path("runs").rglob("weights.safetensors")} >= {"lorun", "pretrain"}


def test_without_a_repository_the_results_that_are_here_count(compare: Compare, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / ".git")
    result = compare("linear_mmse", "--against", "shared")
    assert result.status == 0, result.err
    assert row_of("shared", result.out)[-1] == "committed"
    assert row_of("linear_mmse", result.out)[-1] == "new"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["loran"], "unknown method 'loran'. Did you mean 'lorun'? Choices: block1, "),
        (["nets/nothing"], "baseline nets/nothing: no such folder"),
        (["nets/my_net", "--task", "cz"], "unknown task 'cz'. Choices: cs"),
        (["nets/my_net", "--setting", "r26"], "unknown setting 'r26'. Did you mean 'r25'? Choices: r25"),
        (
            ["nets/my_net", "--against", "gap"],
            "unknown method of the task cs to compare with 'gap'. Choices: block_k, ",
        ),
        (
            ["gap_tv"],
            "no task of the profile tiny (cs) is one that the cards of all of gap_tv name; --task chooses one",
        ),
        (["nets/my_net", "--dataset", "set12"], "set12"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_trained(compare: Compare, words: list[str], message: str) -> None:
    status, _, err = compare(*words)
    assert status == 1
    last = err.splitlines()[-1]
    assert message in last
    assert "Traceback" not in err
    assert not list(Path("runs").rglob("weights.safetensors"))


def test_a_ratio_needs_a_task_that_has_one(lorun: Callable[..., Output], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    result = lorun("compare", "tikhonov", "--profile", "quick", "--task", "sr", "--ratio", 10)
    assert result.status == 1
    assert result.err.splitlines()[-1] == "error: --ratio 10: the task sr has no sampling ratio"
