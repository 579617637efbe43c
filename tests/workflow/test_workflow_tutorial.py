"""Tutorials followed in a copy of the project: docs/baselines.md adds three networks, docs/task.md an operator.

The commands of a page run one after another in one process. Of `make reproduce` Snakemake only plans the jobs; the
commands that it would call are run instead.
"""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from pages import blocks
from processes import Target, commands, launch, run_in_copy
from tiny import PROJECT

from lorun.methods import PRESETS, Preset
from lorun.plugins.places import find
from lorun.profiles import load_profile
from lorun.results.store import read_result_set
from lorun.system import build_system

pytest.importorskip("snakemake")

PATIENCE = 600  # seconds
NETWORKS = ("my_net", "unfolded_pgd", "plain_unet")


class Suite:
    """A copy of the project, with the commands of this environment."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        (root / ".dvc").mkdir()
        for name in ("Snakefile", "dvc.yaml", ".dvc/config", "pyproject.toml"):
            shutil.copy(PROJECT / name, root / name)
        for name in ("workflow", "lorun", "baselines", "config"):
            shutil.copytree(PROJECT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        (root / "data").mkdir()
        for path in (PROJECT / "data/registry.yaml", *(PROJECT / "data").glob("*.md5")):
            shutil.copy(path, root / "data")

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(text, encoding="utf-8")

    def call(self, target: Target, *arguments: object) -> str:
        """The output of a process of this copy, with that of errors."""
        settings = {**os.environ, "PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        settings["DVC_SITE_CACHE_DIR"] = str(self.root.parent / "site-cache")
        settings["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        result = run_in_copy(self.root, settings, target, *arguments, patience=PATIENCE)
        assert result.returncode == 0, f"{arguments}\n{result.stdout}\n{result.stderr}"
        return result.stdout + result.stderr

    def run(self, *lines: str) -> dict[str, str]:
        """Run commands in one process, up to the first that fails; what each printed."""
        output = self.call(commands, lines, "mistake.yaml")
        found: dict[str, str] = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
        return found | {"pytest": output}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return Suite(tmp_path_factory.mktemp("tutorial") / "suite")


# docs/baselines.md

TUTORIAL = (PROJECT / "docs/baselines.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", TUTORIAL, re.M | re.S))
COMMANDS = re.findall(r"^    ((?:lorun|make) .*)$", TUTORIAL, re.M)
ELSEWHERE = [
    "lorun contract ../nets/my_net",  # of the template: tests/cli/test_cli_baselines.py
    "lorun compare ../nets/my_net",  # trains for minutes; the same with the profile smoke is run
    "make reproduce PROFILE=mine",
]


def of_mine(command: str, method: str) -> str:
    return f"lorun {command} -c config/mine.yaml --task cs --setting r25 --method {method}"


@pytest.fixture(scope="module")
def followed(suite: Suite) -> dict[str, str]:
    """What each command of the tutorial printed, and those that `make reproduce` calls."""
    methods = ("linear_mmse", *NETWORKS)
    reproduce = [of_mine(command, method) for method in methods for command in ("train", "evaluate", "account")]
    new = [line for line in COMMANDS if line.startswith("lorun new")]
    checks = [line for line in COMMANDS if line.startswith(("lorun contract", "lorun config"))]
    compare = [line for line in COMMANDS if line.startswith("lorun compare")]
    by_hand = [line for line in COMMANDS if line.startswith(("lorun evaluate", "lorun account"))]
    assert sorted([*new, *checks, *compare, *by_hand, ELSEWHERE[-1]]) == sorted(COMMANDS)
    assert set(by_hand) < set(reproduce)
    printed = suite.run(*new)
    suite.write(FILES)
    dry_run = ("--cores", "2", "--profile", "mine", "--", "--dry-run")
    printed["make reproduce PROFILE=mine"] = suite.call(launch, dry_run)
    lines = [line for line in (*checks, *compare) if line not in ELSEWHERE]
    lines = ["lorun data make photos", *lines, *reproduce]
    return printed | suite.run(*lines, "lorun table -c config/mine.yaml", "lorun show results/mine")


def test_the_networks_of_the_tutorial_are_short():
    networks = [text for name, text in FILES.items() if name.endswith("baseline.py")]
    assert len(networks) == len(NETWORKS) - 1  # the other is the template
    assert all(len(text.splitlines()) < 30 for text in networks)


def test_the_networks_pass_the_contract_and_are_in_the_table(followed):
    contract = followed["lorun contract ../nets/unfolded_pgd ../nets/plain_unet"]
    assert contract.count("passed;") + contract.count("passed, ") == 2
    assert "FAILED" not in contract
    table = followed["lorun show results/mine"]
    assert all(re.search(rf"^\| {name} +\|.*completed 1/1", table, re.M) for name in NETWORKS)


def test_runs_of_networks_from_elsewhere_name_their_code(suite, followed):
    results = read_result_set(suite.root / "results/mine")
    runs = results.runs.set_index("method")
    assert set(runs.index) == set(results.rows.method) == {"linear_mmse", *NETWORKS}
    assert set(runs.status) == {"completed"}
    parameters = results.accounting.set_index("method").parameters_network
    assert parameters["my_net"] == 3 * (8 * 9 + 8 + 8 * 9 + 1 + 1)  # with the width of the profile
    for name in NETWORKS:
        digest = find(str(suite.root.parent / "nets" / name)).digest
        assert runs.versions[name].split()[-1] == f"{name}={digest}@../nets/{name}"
    assert "@" not in runs.versions["linear_mmse"]


def test_one_command_compares_a_network(suite, followed):
    """The copy has no committed results, so that Block-K is run as well."""
    printed = followed["lorun compare ../nets/my_net --profile smoke --task cs"]
    assert "cs/r25: no committed row of block_k is of this configuration; it is run as well." in printed
    assert re.search(r"^\| my_net +\|.*completed 1/1", printed, re.M)
    assert re.search(r"^my_net - block_k: (better|worse|no difference shown): ", printed, re.M)
    assert not (suite.root / "results/smoke").exists()


def test_make_reproduce_plans_every_network(followed):
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", followed["make reproduce PROFILE=mine"], re.M))
    assert jobs["train"] == jobs["evaluate"] == jobs["account"] == "4"


def test_a_changed_network_alone_is_trained_again(suite, followed, monkeypatch):
    monkeypatch.chdir(suite.root)
    changes = {"unfolded_pgd": ("nf=16", "nf=8"), "plain_unet": ("\n\nBaseline", "\n\n# a comment\nBaseline")}
    for name, (old, new) in changes.items():
        path = Path("../nets", name, "baseline.py")
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    experiments = load_profile("config/mine.yaml").experiments()
    assert [one.method for one in experiments if not Path("runs", one.folder).exists()] == ["unfolded_pgd"]


# docs/task.md

PAGE = list(blocks(PROJECT / "docs/task.md"))
ADDED = {block.note: block.text for block in PAGE if block.kind == "file"}
MISTAKE = "extends: inpainting.yaml\ntasks: {inpainting: {settings: {half: {kepd: 0.5}}}}\n"


@pytest.fixture(scope="module")
def inpainting(suite: Suite) -> dict[str, str]:
    """What each command of docs/task.md printed, in a suite with the files of that page and no other change."""
    lines = [line.removeprefix(".venv/bin/") for block in PAGE if block.kind == "run" for line in block.commands]
    tests = [line.removeprefix("python -m ") for line in lines if line.startswith("python -m pytest ")]
    calls = [line for line in lines if line.startswith("lorun ")]
    assert len(tests) + len(calls) == len(lines)
    assert [name for name in ADDED if (suite.root / name).exists()] == []
    suite.write(ADDED | {"config/mistake.yaml": MISTAKE})
    shutil.copytree(PROJECT / "tests/physics", suite.root / "tests/physics")
    more = ["lorun contract initial_reconstruction", "lorun config check config/mistake.yaml"]
    data = [] if (suite.root / "data/photos").exists() else ["lorun data make photos"]
    return suite.run(*data, *calls, *more, *tests)


def test_an_operator_is_one_module_and_a_profile(suite, inpainting):
    assert list(ADDED) == ["lorun/physics/inpainting.py", "config/inpainting.yaml"]
    results = read_result_set(suite.root / "results/inpainting")
    assert set(results.rows.method) == {"lorun"}
    assert set(results.runs[results.runs.method == "lorun"].status) == {"completed", "not_run"}


def test_a_new_operator_is_found_by_name_and_checked(inpainting):
    assert "Did you mean `kept`?" in inpainting["lorun config check config/mistake.yaml"]
    assert re.search(r"1\d passed", inpainting["pytest"])


def test_a_new_operator_needs_no_change_of_a_card(inpainting):
    contract = inpainting["lorun contract initial_reconstruction"]
    assert "inpainting-1" in contract
    assert "FAILED" not in contract


def test_a_strategy_is_one_line(tiny_profile, monkeypatch):
    line = re.search(r"`(Preset\(.*\))`", (PROJECT / "docs/task.md").read_text(encoding="utf-8"))
    preset = eval(line[1], {"Preset": Preset})
    monkeypatch.setitem(PRESETS, preset.name, preset)
    experiment = tiny_profile.resolve("cs", "r25", preset.name, 0)
    assert experiment.base.method == "pretrain_shared_sigma"
    network = build_system(experiment).network
    assert not any(parameter.requires_grad for parameter in network.denoisers.parameters())
    assert network.noise_levels.shape == (experiment.stages,)
