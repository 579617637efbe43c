"""docs/baselines.md followed in a copy of the project: two networks of a folder outside become rows of a table."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from sessions import run_session
from tiny import PROJECT

from lorun.plugins.places import find
from lorun.results.store import read_result_set

pytest.importorskip("snakemake")

PATIENCE = 600  # seconds
TUTORIAL = (PROJECT / "docs/baselines.md").read_text(encoding="utf-8")
OUTSIDE = ("unfolded_pgd", "plain_unet")


def files(text):
    """Every block that stands under the name of a file: name -> content."""
    return dict(re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", text, re.M | re.S))


def commands(text):
    """The lines to type, in their order, the files that come before each among them."""
    for part in re.split(r"(^`[\w./]+`:\n\n```\w+\n.*?^```$)", text, flags=re.M | re.S):
        yield from files(part).items() or re.findall(r"^    (lorun .*|make .*)$", part, re.M)


class Suite:
    """A copy of the project, with the commands of this environment."""

    def __init__(self, root):
        self.root = root
        root.mkdir()
        (root / ".dvc").mkdir()
        for name in ("Snakefile", "dvc.yaml", ".dvc/config"):
            shutil.copy(PROJECT / name, root / name)
        for name in ("workflow", "lorun", "baselines", "config"):
            shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        (root / "data").mkdir()
        for path in (PROJECT / "data/registry.yaml", *(PROJECT / "data").glob("*.md5")):
            shutil.copy(path, root / "data")

    def run(self, command):
        launch = "python workflow/launch.py --cores 2 --profile "
        words = shlex.split(command.replace("make reproduce PROFILE=", launch), comments=True)
        environment = {**os.environ, "PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        environment["DVC_SITE_CACHE_DIR"] = str(self.root.parent / "site-cache")
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return run_session(words, cwd=self.root, env=environment, patience=PATIENCE)


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The suite after the tutorial, and what each command printed."""
    suite = Suite(tmp_path_factory.mktemp("tutorial") / "suite")
    printed = {}
    for step in commands(TUTORIAL):
        if isinstance(step, tuple):
            name, content = step
            assert (suite.root / name).parent.is_dir(), name
            (suite.root / name).write_text(content, encoding="utf-8")
            continue
        result = suite.run(step)
        assert result.returncode == 0, f"{step}\n{result.stdout}\n{result.stderr}"
        printed[step] = result.stdout
    return suite, printed


def test_the_networks_of_the_tutorial_are_short():
    own = [text for name, text in files(TUTORIAL).items() if name.endswith(".py")]
    assert len(own) == len(OUTSIDE)
    assert all(len(text.splitlines()) < 30 for text in own)


def test_what_the_tutorial_says_is_what_is_printed(followed):
    _, printed = followed
    assert "CHANGE" in printed["lorun new baseline my_net --into ../nets"]
    contract = printed["lorun contract ../nets/unfolded_pgd ../nets/plain_unet"]
    assert contract.count("passed;") + contract.count("passed, ") == 2
    assert "FAILED" not in contract
    table = printed["make reproduce PROFILE=mine"]
    assert all(re.search(rf"^\| {name} +\|.*completed 1/1", table, re.M) for name in OUTSIDE)


def test_networks_from_elsewhere_have_runs_with_the_code_that_made_them(followed):
    suite, _ = followed
    results = read_result_set(suite.root / "results/mine")
    runs = results.runs
    assert set(runs.method) == set(results.rows.method) == {"linear_mmse", *OUTSIDE}
    assert set(runs.status) == {"completed"}
    for name in OUTSIDE:
        digest = find(str(suite.root.parent / "nets" / name)).digest
        versions = set(runs[runs.method == name].versions)
        assert {words.split()[-1] for words in versions} == {f"{name}={digest}@../nets/{name}"}
    assert not runs[runs.method == "linear_mmse"].versions.str.contains("@").any()


def test_a_changed_network_alone_is_trained_again(followed):
    suite, _ = followed
    network = suite.root.parent / "nets/unfolded_pgd/baseline.py"
    before = network.read_text()
    dry = "make reproduce PROFILE=mine -- --dry-run"
    for change, trainings in [(before + "\n# a comment\n", 0), (before.replace("nf=16", "nf=8"), 1)]:
        network.write_text(change)
        result = suite.run(dry)
        assert result.returncode == 0, result.stderr
        jobs = re.findall(r"^(\w+) +(\d+)$", result.stdout + result.stderr, re.M)
        assert int(dict(jobs).get("train", 0)) == trainings
    network.write_text(before)
