"""Which files make a row `dirty`: code that can reach its run, and nothing else."""

from pathlib import Path

import pytest
from scratch import git

from lorun import provenance

TRACKED = (
    *("lorun/unfolding.py", "baselines/ista_net/baseline.py", "workflow/launch.py", "Snakefile", "requirements.lock"),
    *("config/quick.yaml", "config/tuned/quick.csv", "data/registry.yaml", "results/quick/rows.csv", "README.md"),
)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in TRACKED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("as committed\n")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "all")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "dirty"),
    [
        ("lorun/unfolding.py", True),
        ("lorun/physics/mine.py", True),
        ("baselines/ista_net/baseline.py", True),
        ("baselines/my_net/baseline.py", True),
        ("workflow/launch.py", True),
        ("requirements.lock", True),
        ("config/mine.yaml", False),
        ("config/tuned/mine.csv", False),
        ("config/tuned/quick.csv", False),
        ("data/registry.yaml", False),
        ("data/mine.md5", False),
        ("results/mine/rows.csv", False),
        ("nets/my_net/baseline.py", False),  # its digest is recorded
        ("README.md", False),
        ("baselines/NOTES.md", False),
    ],
)
def test_only_code_that_can_reach_a_run_makes_it_dirty(repository: Path, name: str, dirty: bool) -> None:
    revision = provenance.revision.__wrapped__
    commit = git(repository, "rev-parse", "HEAD")
    assert revision() == (commit, False)
    (repository / name).parent.mkdir(parents=True, exist_ok=True)
    (repository / name).write_text("changed\n")
    assert revision() == (commit, dirty)


def test_without_a_repository_nothing_is_known_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.revision.__wrapped__() == (None, None)
    said = capsys.readouterr().err
    assert said.startswith("no commit is recorded with the results: git ls-files --error-unmatch in ")
    assert said.count("\n") == 1


def test_a_repository_that_merely_lies_around_the_code_is_not_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "a paper")
    (tmp_path / "suite/lorun").mkdir(parents=True)
    (tmp_path / "suite/lorun/unfolding.py").write_text("not tracked\n")
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "suite")
    assert provenance.revision.__wrapped__() == (None, None)


def test_a_hook_of_another_repository_changes_nothing(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init")
    git(other, "commit", "--quiet", "--allow-empty", "-m", "a paper")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    assert provenance.revision.__wrapped__() == (commit, False)
