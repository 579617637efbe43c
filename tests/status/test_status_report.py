"""What `lorun status` prints, and what it says that things cost."""

import json
import re
import sys
from collections.abc import Callable

import pytest
from scratch import SECONDS, git

from lorun import cli
from lorun.config import load_profile
from lorun.status.cost import Costs
from lorun.status.judge import judge
from lorun.status.project import Project


@pytest.fixture
def status(scratch, monkeypatch: pytest.MonkeyPatch, capsys) -> Callable[..., tuple[int, str]]:
    """Run `lorun status` in the project: exit status and output."""
    monkeypatch.chdir(scratch.root)

    def status(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["lorun", "status", *words])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, said.out + said.err

    return status


def test_a_fresh_project_needs_nothing(status):
    code, said = status("--strict")
    assert code == 0
    assert "scratch (no version): runs: 7 fresh; accounts: 7 fresh\n" in said
    assert "why" not in said


def test_what_is_stale_is_told_with_what_it_would_take(scratch, status):
    scratch.edit("lorun/physics/cassi.py", "2 / bands if", "3 / bands if")
    code, said = status("results/scratch")
    assert code == 0
    (line,) = re.findall(r"^scratch +cassi +rows .*$", said, flags=re.MULTILINE)
    # Two trainings, and a reconstruction of 36 ms for each of two images.
    hours = 2 * (SECONDS + 2 * 0.036) / 3600
    expected = rf"block_k gap_tv +\S+ +2 +stale +train evaluate +{hours:.2f} +0\.0 "
    assert re.search(expected, line), line
    assert "train: code (lorun/physics/cassi.py); evaluate: code (lorun/physics/cassi.py)" in line
    assert "runs: 5 fresh, 2 stale; accounts: 5 fresh, 2 stale; to bring it up to date: 0.06 hours" in said
    assert status("results/scratch", "--strict")[0] == 1


def test_unknown_is_not_fresh(scratch, status):
    scratch.say("commit", "0" * 40)
    assert status("results/scratch", "--strict")[0] == 1


def test_missing_runs_are_no_stale_ones(scratch, status):
    scratch.say("status", "not_run", method="lorun")
    code, said = status("results/scratch", "--strict")
    assert code == 0
    assert "runs: 6 fresh, 1 missing" in said


def test_a_base_is_counted_once_for_all_that_start_from_it(scratch, status):
    scratch.edit("lorun/training/loop.py", "state.done += 1", "state.done += 2")
    code, said = status("results/scratch", "--json")
    (found,) = json.loads(said)["sets"]
    assert (code, [(base["setting"], base["methods"]) for base in found["bases"]]) == (0, [("r25", ["lorun"])])
    lorun = next(one for one in found["judged"] if (one["what"], one["method"]) == ("rows", "lorun"))
    assert lorun["runs_again"] == ["train", "evaluate"]
    assert lorun["code"]["train"] == {"_Training": "lorun.training.loop"}
    assert lorun["folder"].startswith("runs/cs/r25/lorun/seed0-")
    # 1000 parameters in float32, of all and of those that are trained.
    assert (lorun["cost"]["stored_bytes"], lorun["cost"]["passing_bytes"]) == (4000, 12000)
    base = found["bases"][0]["cost"]
    # 100 s for steps of four stages: phase 1 has one stage and its own number of steps.
    experiment = load_profile(scratch.root / "config/scratch.yaml").experiment("cs", "r25", "lorun", 0)
    steps = experiment.last_step - experiment.first_step
    rates = {SECONDS / 800: 2, SECONDS / steps: 1}
    assert base["guessed"]
    assert base["hours"] * 3600 == pytest.approx(max(rates, key=rates.get) * experiment.first_step / 4, rel=1e-6)


def test_a_training_without_a_time_is_guessed_from_others(scratch):
    path = scratch.root / "results/scratch/timing.csv"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("cs,r25,lorun,0,training")]
    path.write_text("\n".join(lines) + "\n")
    scratch.edit("lorun/training/loop.py", "state.done += 1", "state.done += 2")
    profile = load_profile(scratch.root / "config/scratch.yaml")
    folder = scratch.root / "results/scratch"
    one = next(o for o in judge(Project(scratch.root), folder, profile, scratch.root / "runs") if o.method == "lorun")
    cost = Costs(folder, profile).of(one)
    assert cost.guessed
    experiment = profile.experiment("cs", "r25", "lorun", 0)
    share = (experiment.last_step - experiment.first_step) / experiment.last_step
    scoring = 4 * 0.036  # two images in each of two test sets
    assert cost.hours * 3600 == pytest.approx(SECONDS * share + scoring, rel=1e-6)
    path.write_text("task,setting,method,seed,what,seconds\n")
    assert Costs(folder, profile).of(one).hours is None


def test_a_shallow_clone_says_how_to_mend_it(pristine, status, tmp_path, monkeypatch):
    git(tmp_path, "clone", "--quiet", "--depth=1", pristine.as_uri(), "shallow")
    monkeypatch.chdir(tmp_path / "shallow")
    code, said = status("results/scratch")
    assert code == 0
    assert "this clone is shallow: `git fetch --unshallow` brings the commits of older rows" in said


def test_packages_that_are_installed_otherwise_than_locked_are_noted(scratch, status):
    scratch.edit("requirements.lock", "numpy==2.4.6", "numpy==1.0.0")
    scratch.edit("requirements.lock", "numpy==2.5.5", "numpy==1.0.1")
    assert "installed, but not as locked: numpy " in status("results/scratch")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["results/none"], r"results/none: there is no profile \S*config/none.yaml whose result set it could be"),
        (["results/quick"], r"results/quick/rows.csv: no such table of rows"),
    ],
)
def test_what_is_no_result_set_is_named(status, words, message):
    code, said = status(*words)
    assert code == 1
    assert re.fullmatch(f"error: {message}\n", said)


def test_a_folder_of_no_project_is_named(status, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said = status()
    assert code == 1
    assert said.startswith("error: .: no lorun/ here")
