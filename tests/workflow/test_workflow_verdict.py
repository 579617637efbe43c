"""The verdict of `make reproduce` about the committed result set, with a profile that trains nothing."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from launched import Launched
from scratch import git
from tiny import PROJECT

from lorun.results.store import read_result_set, save_result_set

pytest.importorskip("snakemake")

DIFFERENT = 4
TINY = {"tasks": {"cs": {"strategies": [], "baselines": ["linear_mmse", "total_variation"]}}}


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_data):
    """A repository without any commit of results."""
    project = Launched(tmp_path_factory.mktemp("workflow") / "project", tiny_data, TINY)
    git(project.root, "init")
    shutil.copy(PROJECT / ".gitignore", project.root)
    git(project.root, "add", ".")
    git(project.root, "commit", "--quiet", "-m", "code")
    yield project
    project.close()


@pytest.fixture(scope="module")
def committed(made):
    """The first run, whose results are then committed."""
    result = made.launch()
    git(made.root, "add", "results")
    git(made.root, "commit", "--quiet", "-m", "results")
    return result


def move_a_score(project, by):
    """Commit a result set with another PSNR of linear_mmse, as if it came from other code."""
    folder = project.root / "results/tiny"
    results = read_result_set(folder)
    rows = results.rows.copy()
    place = rows.index[(rows.method == "linear_mmse") & (rows.metric == "psnr")][0]
    rows.loc[place, "value"] += by
    save_result_set(folder, replace(results, rows=rows))
    git(project.root, "commit", "--quiet", "-a", "-m", "another score")


def test_without_a_committed_set_the_results_are_the_first(committed):
    assert committed.returncode == 0, committed.stdout + committed.stderr
    *_, done, compared = committed.stdout.splitlines()
    assert done.startswith("Done in ")
    assert done.endswith("s: results/tiny")
    assert "results/tiny is not committed (git cat-file -e in " in compared


def test_a_further_run_writes_beside_the_committed_set_and_says_that_it_is_identical(made, committed):
    assert committed.returncode == 0
    for again, expected in ((False, "Done in "), (True, "Nothing to do: runs/results/tiny is up to date.")):
        result = made.launch()
        assert result.returncode == 0, result.stdout + result.stderr
        *_, done, verdict = result.stdout.splitlines()
        assert done.startswith(expected), again
        assert verdict.startswith("Identical to results/tiny as committed (version 1, scores ")
        assert git(made.root, "status", "--porcelain") == ""
    assert (made.root / "runs/results/tiny/report.html").is_file()


def test_a_difference_is_named_and_replaces_nothing_unless_it_is_accepted(made, committed):
    move_a_score(made, 1.0)
    result = made.launch()
    assert result.returncode == DIFFERENT, result.stdout + result.stderr
    verdict = result.stdout[result.stdout.index("DIFFERENT from results/tiny as committed (version 2, ") :].splitlines()
    assert "1 of 16 scores moved" in verdict[0]
    assert verdict[1].startswith("  failed: cs/cs_float_y: PSNR moved by up to ")
    assert "linear_mmse" in verdict[1]
    gate = "lorun gate --reference HEAD:results/tiny --candidate runs/results/tiny --all"
    assert verdict[-2:] == [
        f"All findings: {gate}",
        "To replace the committed set: make reproduce PROFILE=tiny ACCEPT=1",
    ]
    assert git(made.root, "status", "--porcelain") == ""

    accepted = made.launch("tiny", "--accept")
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    assert accepted.stdout.splitlines()[-1] == "Accepted: results/tiny has these results; commit it"
    assert "M results/tiny/rows.csv" in git(made.root, "status", "--porcelain")
    assert '"version": 3' in (made.root / "results/tiny/version.json").read_text()
    git(made.root, "commit", "--quiet", "-a", "-m", "accepted")
    result = made.launch()
    assert result.returncode == 0
    assert "Identical to results/tiny as committed (version 3, scores " in result.stdout.splitlines()[-1]


# The same without Snakemake


@pytest.fixture
def compared(launch, tmp_path, monkeypatch, capsys):
    """Compare results of another origin with those of a repository: status and lines. `change` edits them."""
    shutil.copytree(PROJECT / "results/smoke", tmp_path / "results/smoke")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "results")
    monkeypatch.setattr(launch, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)

    def compared(change=lambda results: results):
        committed, reason = launch._committed(Path("results/smoke"))
        if committed is None:
            return None, [reason]
        made = tmp_path / "runs/results/smoke"
        save_result_set(made, change(read_result_set("results/smoke")))
        return launch._compare(committed, made), capsys.readouterr().out.splitlines()

    return compared


def test_noise_is_no_difference(compared):
    def moved(results):
        value = results.rows.value + 1e-4 * (results.rows.metric == "psnr")
        return replace(results, rows=results.rows.assign(value=value))

    status, lines = compared(moved)
    assert status == 0, lines
    [line] = lines
    assert line.startswith("Equal within noise to results/smoke as committed (version ")
    rows = read_result_set(PROJECT / "results/smoke").rows
    assert f": {(rows.metric == 'psnr').sum()} of {len(rows)} scores moved, none by more than the gate allows" in line


def test_a_set_in_a_folder_of_a_repository_is_found(compared, launch, tmp_path, monkeypatch):
    (tmp_path / "suite").mkdir()
    git(tmp_path, "mv", "results", "suite")
    git(tmp_path, "commit", "--quiet", "-m", "moved")
    monkeypatch.setattr(launch, "ROOT", tmp_path / "suite")
    monkeypatch.chdir(tmp_path / "suite")
    status, [line] = compared()
    assert status == 0
    assert line.startswith("Identical to results/smoke as committed (version ")


def test_a_damaged_committed_set_is_said_in_one_line(compared, tmp_path):
    intact = read_result_set("results/smoke")
    (tmp_path / "results/smoke/version.json").write_text("{")
    git(tmp_path, "commit", "--quiet", "-a", "-m", "damage")
    (tmp_path / "results/smoke/version.json").unlink()
    status, [line] = compared(lambda _: intact)
    assert status == 0
    assert line.startswith("Not compared with committed results: HEAD:results/smoke/version.json: damaged; restore it")


def test_without_git_nothing_is_compared(compared, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compared() == (None, ["results/smoke is not committed (git: No such file or directory)"])


def test_without_a_commit_nothing_is_compared(compared, tmp_path):
    shutil.rmtree(tmp_path / ".git")
    git(tmp_path, "init")
    status, [line] = compared()
    assert status is None
    assert line.startswith("results/smoke is not committed (git cat-file")
