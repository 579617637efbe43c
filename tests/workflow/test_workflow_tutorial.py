"""Tutorials followed in a copy of the project: docs/baselines.md adds two networks, docs/task.md an operator."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from lorun.results.rows import read_rows
from pages import blocks
from sessions import run_session
from tiny import PROJECT

from lorun.plugins.places import find

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
        said = {**os.environ, "PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        said["DVC_SITE_CACHE_DIR"] = str(self.root.parent / "site-cache")
        said["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return run_session(words, cwd=self.root, env=said, patience=PATIENCE)

    def rows(self):
        return read_rows(self.root / "results/mine/rows.csv")


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


def test_networks_from_elsewhere_have_rows_that_say_which_code_they_are_of(followed):
    suite, _ = followed
    rows = suite.rows()
    assert set(rows.method) == {"linear_mmse", *OUTSIDE}
    assert set(rows.status) == {"completed"}
    assert rows.value.notna().all()
    for name in OUTSIDE:
        digest = find(str(suite.root.parent / "nets" / name)).digest
        versions = set(rows[rows.method == name].versions)
        assert {words.split()[-1] for words in versions} == {f"{name}={digest}@../nets/{name}"}
    assert not rows[rows.method == "linear_mmse"].versions.str.contains("@").any()


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


# docs/task.md

IN_ONE_PROCESS = """
import shlex, sys
from typer.testing import CliRunner
from lorun.cli import app

for line in sys.argv[1:]:
    result = CliRunner().invoke(app, shlex.split(line), catch_exceptions=False)
    print(result.output)
    if result.exit_code:
        sys.exit(result.exit_code)
"""


@pytest.fixture(scope="module")
def inpainting(tmp_path_factory):
    """A suite with the files of docs/task.md, these files, and the commands of that page."""
    suite = Suite(tmp_path_factory.mktemp("task") / "suite")
    page = list(blocks(PROJECT / "docs/task.md"))
    assert {block.kind for block in page} == {"file", "run"}
    added = {block.said: block.text for block in page if block.kind == "file"}
    assert [name for name in added if (suite.root / name).exists()] == []
    for name, text in added.items():
        (suite.root / name).write_text(text, encoding="utf-8")
    return suite, added, [line for block in page if block.kind == "run" for line in block.commands]


def test_an_operator_is_one_module_and_a_profile(inpainting):
    suite, added, commands = inpainting
    assert list(added) == ["lorun/physics/inpainting.py", "config/inpainting.yaml"]
    lines = [line.removeprefix(".venv/bin/lorun ") for line in commands if line.startswith(".venv/bin/lorun ")]
    assert {line.split()[0] for line in lines} == {"config", "train", "evaluate", "account", "table", "show"}
    result = suite.run(shlex.join(["python", "-c", IN_ONE_PROCESS, "data make photos", *lines]))
    assert result.returncode == 0, result.stdout + result.stderr
    rows = read_rows(suite.root / "results/inpainting/rows.csv")
    completed = rows[rows.status == "completed"]
    assert set(completed.method) == {"lorun"}
    assert completed.value.notna().all()


def test_the_suite_finds_an_operator_by_the_name_of_its_module(inpainting):
    suite, _, _ = inpainting
    (suite.root / "config/mistake.yaml").write_text(
        "extends: inpainting.yaml\ntasks: {inpainting: {settings: {half: {kepd: 0.5}}}}\n"
    )
    result = suite.run("lorun config check config/mistake.yaml")
    assert result.returncode == 1
    assert "Did you mean `kept`?" in result.stdout + result.stderr


def test_the_contract_of_operators_tries_a_new_one(inpainting):
    suite, _, _ = inpainting
    shutil.copytree(PROJECT / "tests/physics", suite.root / "tests/physics")
    shutil.copy(PROJECT / "pyproject.toml", suite.root)
    result = suite.run("python -m pytest -q tests/physics/test_physics_contract.py -k inpainting")
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"1\d passed", result.stdout)
