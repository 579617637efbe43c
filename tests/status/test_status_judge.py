"""What an edit makes stale, in a git repository of its own, and what it does not."""

import shutil
from pathlib import Path

import pytest
from scratch import VERSIONS, Scratch, git, write_tables
from tiny import PROJECT

from lorun.config import load_profile
from lorun.errors import LorunError
from lorun.status import uses
from lorun.status.project import Project
from lorun.status.reach import fingerprint
from lorun.training.loop import WEIGHTS

CS = ("cs/block_k", "cs/lorun", "cs/linear_mmse", "cs/ista_net_plus")
TRAINED = (*CS, "cassi/block_k", "cassi/gap_tv", "sr/bicubic")
CASSI = tuple(name for name in TRAINED if name.startswith("cassi/"))
BUILT = ("cs/block_k", "cs/lorun", "cassi/block_k")
CODE = {"train: code", "evaluate: code"}


def everything(names, reasons, account=True):
    """These rows for these reasons and, by default, their accounts, too."""
    return dict.fromkeys(names, reasons) | ({f"{name} account": {"account: code"} for name in names} if account else {})


def test_nothing_is_stale_where_nothing_was_edited(scratch):
    assert scratch.reasons() == {}
    assert scratch.reasons("published") == {}


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        (
            "lorun/training/loop.py",
            "state, config = self.state, self.config",
            "state, config = self.state, self.config  # so",
        ),
        ("lorun/training/loop.py", '"""The training loop, the same for every method."""', '"""A loop."""'),
        ("lorun/training/loop.py", '"""The state before the first step."""', '"""Reworded."""'),
        ("lorun/training/loop.py", "def _validate(self) -> float:", "def _validate(self) -> object:"),
        ("lorun/training/loop.py", "its pretrained base is missing", "its base is missing"),
        (
            "lorun/training/loop.py",
            "\n\nclass _Training:",
            "\n\ndef unused() -> None:\n    raise OSError\n\n\nclass _Training:",
        ),
        ("lorun/config/training.py", 'description="optimiser steps in all', 'description="steps in all'),
        ("lorun/evaluation/protocols.py", 'source="the only number that real captures have"', 'source="residual"'),
        ("lorun/evaluation/metrics.py", "if TYPE_CHECKING:", "if TYPE_CHECKING:\n    import this\n\n"),
        ("lorun/results/markdown.py", "_NONE = ", "_NONE = 'none' or "),
        ("lorun/cli/__init__.py", "ENDED_WITHOUT_RESULT = 3", "ENDED_WITHOUT_RESULT = 4"),
        ("lorun/provenance.py", '"pillow", ', ""),
        ("lorun/status/reach.py", "import copy", "import math"),
        ("lorun/splitting.py", "1 / alpha", "2 / alpha"),
        ("lorun/plugins/contract.py", "block=8", "block=16"),
        ("lorun/plugins/scaffold.py", "import os\n", "import os\n\nprint()\n"),
        ("lorun/plugins/places.py", "_DIGEST_LENGTH = 12", "_DIGEST_LENGTH = 13"),
        ("lorun/plugins/usrnet_family.py", "import torch\n", "import torch\n\nprint()\n"),
        ("baselines/ista_net_plus/card.yaml", "title: ", "title: The "),
        ("data/registry.yaml", "role: test\n", "role: train+test\n"),
        ("requirements.lock", "numpy==2.5.5", "numpy==2.6.0"),
    ],
)
def test_what_computes_nothing_makes_nothing_stale(scratch, path, old, new):
    scratch.edit(path, old, new)
    assert scratch.reasons() == {}


GAIN = ("lorun/physics/cassi.py", "2 / bands if", "3 / bands if")


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        (
            "lorun/training/loop.py",
            "rate = learning_rate(state.done, self.steps, config)",
            "rate = learning_rate(state.done + 1, self.steps, config)",
            everything(TRAINED, {"train: code"}, account=False),
        ),
        ("lorun/training/step.py", "loss.backward()", "(2 * loss).backward()", everything(TRAINED, {"train: code"})),
        (*GAIN, everything(CASSI, CODE)),
        ("lorun/physics/block_cs.py", "gram, cross.mT", "gram, -cross.mT", everything(CS, CODE)),
        (
            "lorun/evaluation/metrics.py",
            "PSNR_LIMIT = 80.0",
            "PSNR_LIMIT = 70.0",
            everything(TRAINED, {"evaluate: code"}, account=False),
        ),
        ("lorun/results/rows.py", "_DIGITS = 6", "_DIGITS = 5", everything(TRAINED, {"evaluate: code"}, account=False)),
        (
            "baselines/ista_net_plus/baseline.py",
            "= two_convs()",
            "= two_convs(1)",
            everything(["cs/ista_net_plus"], CODE),
        ),
        (
            "baselines/bicubic/baseline.py",
            '"bicubic", physics',
            '"bilinear", physics',
            everything(["sr/bicubic"], CODE),
        ),
        ("baselines/gap_tv/baseline.py", "INNER = 5", "INNER = 6", everything(["cassi/gap_tv"], CODE)),
        ("lorun/unfolding.py", "if sharing == FROZEN:", "if sharing != FROZEN:", everything(BUILT, CODE)),
        ("lorun/adapters/layers.py", "import Conv2d as", "import Linear as", everything(["cs/lorun"], CODE)),
        (
            "lorun/accounting/parameters.py",
            "if p.requires_grad",
            "if p.is_leaf",
            {f"{name} account": {"account: code"} for name in TRAINED},
        ),
        ("lorun/seeds.py", "range(5)", "(3, 2, 1, 0, 4)", everything(TRAINED, CODE)),
        ("lorun/config/experiment.py", "return sorted(found)", "return list(found)", everything(TRAINED, CODE, False)),
        ("lorun/__init__.py", "__version__ = ", "print()\n__version__ = ", everything(TRAINED, CODE)),
    ],
)
def test_what_computes_makes_stale_what_may_reach_it_and_nothing_else(scratch, path, old, new, expected):
    scratch.edit(path, old, new)
    assert scratch.reasons() == expected


def test_splitting_is_of_one_method_alone(scratch):
    assert scratch.reasons("tasks") == {}
    scratch.edit("lorun/splitting.py", "1 / alpha", "2 / alpha")
    both = ["sr/deep_plug_and_play", "deblur/deep_plug_and_play"]
    assert scratch.reasons("tasks") == everything(both, CODE)


def test_splitting_is_trained_where_its_base_is(scratch):
    """The base is a network of stages, that of the scores none."""
    scratch.edit("lorun/unfolding.py", "if sharing == FROZEN:", "if sharing != FROZEN:")
    assert scratch.reasons("tasks")["deblur/deep_plug_and_play"] == {"train: code"}


@pytest.mark.parametrize("profile", ["quick", "tasks", "desk", "published"])
def test_no_row_uses_everything(profile):
    """Nor what judges, shows and tries the networks, nor the code of others."""
    modules = Project(PROJECT).now.modules
    for experiment in load_profile(PROJECT / "config" / f"{profile}.yaml").experiments():
        for use in (uses.training(experiment), uses.evaluation(experiment), uses.account(experiment)):
            reached = {one.module for one in fingerprint(modules, use).values()} - {"lorun.results.rows"}
            assert len(reached) < len(modules) / 3
            others = ("cli", "report", "gate", "status", "bench", "results")
            assert not [name for name in reached if name.startswith(tuple(f"lorun.{other}" for other in others))]
            networks = {name for name in reached if name.startswith("baselines.") and name.endswith(".baseline")}
            own = f"baselines.{experiment.method}.baseline"
            # The classical ones start from that of Tikhonov where an operator blurs.
            classical = {"baselines.tikhonov.baseline"} if "lorun.plugins.classical" in reached else set()
            assert networks == ({own} & modules.keys()) | classical
            assert ("lorun.splitting" in reached) == (experiment.method == "deep_plug_and_play")
            assert not reached & {"lorun.plugins.contract", "lorun.plugins.scaffold", "lorun.plugins.places"}


@pytest.fixture
def outside(scratch, tmp_path) -> Path:
    """The folder of a baseline from outside the project, which has rows of the project's commit."""
    folder = tmp_path / "my_net"
    folder.mkdir()
    shutil.copy(PROJECT / "baselines/bicubic/card.yaml", folder)
    (folder / "baseline.py").write_text("from .net import Baseline as Baseline\n")
    (folder / "net.py").write_text(
        "from lorun.plugins.outside import from_module\n\nBaseline = from_module(lambda channels: None, multiple=8)\n"
    )
    scratch.rewrite("config/scratch.yaml", lambda said: said["tasks"]["sr"].update(baselines=[str(folder)]))
    write_tables(scratch.root, "scratch", scratch.commit)
    profile = load_profile(scratch.root / "config/scratch.yaml")
    (digest,) = (one.outside.digest for one in profile.experiments() if one.outside is not None)
    scratch.say("versions", f"{VERSIONS} my_net={digest}@{folder}", method="my_net")
    return folder


def test_a_baseline_from_outside_is_judged_by_what_it_uses_of_the_project(scratch, outside):
    assert scratch.reasons() == {}
    scratch.edit("baselines/bicubic/baseline.py", '"bicubic", physics', '"bilinear", physics')
    scratch.edit("lorun/plugins/outside.py", "from_reconstructor(\n", "from_reconstructor(\n    unused: int, ")
    assert scratch.reasons() == {}
    scratch.edit("lorun/plugins/snapshot.py", "-width % multiple", "-height % multiple")
    assert scratch.reasons() == everything(["sr/my_net"], CODE)


def test_a_baseline_from_outside_is_judged_by_its_digest(scratch, outside):
    (outside / "net.py").write_text((outside / "net.py").read_text() + "# a comment\n")
    assert scratch.reasons() == {}
    (outside / "net.py").write_text((outside / "net.py").read_text().replace("multiple=8", "multiple=16"))
    assert scratch.reasons() == {
        "sr/my_net": {"train: configuration"},
        "sr/my_net account": {"account: configuration"},
    }
    (one,) = (one for one in scratch.judged() if (one.what, one.method) == ("rows", "my_net"))
    assert one.reasons[0].where[0].startswith("outside.digest ")


def test_a_definition_may_move(scratch):
    path = scratch.root / "lorun/training/schedule.py"
    path.rename(path.with_name("rates.py"))
    scratch.edit("lorun/training/loop.py", "from lorun.training.schedule import", "from lorun.training.rates import")
    assert scratch.reasons() == {}


def test_what_is_added_for_others_makes_nothing_stale(scratch):
    branch = "    if isinstance(config, CASSIConfig):"
    other = "    if isinstance(config, DenoisingConfig):\n        return _build_other(config)\n"
    scratch.edit("lorun/physics/__init__.py", branch, other + branch)
    scratch.edit("lorun/evaluation/protocols.py", 'name="sr_gray"', 'name="sr_other"')
    scratch.edit("lorun/config/training.py", "    steps: int", "    unasked: bool = False\n    steps: int")
    scratch.edit("lorun/denoisers/__init__.py", "CNNConfig: CNN", "CNNConfig: UNet")
    scratch.rewrite("data/registry.yaml", lambda said: said.update(another=said["set5"]))
    assert scratch.reasons() == {}


def test_a_new_option_counts_once_somebody_asks_for_it(scratch):
    scratch.edit("lorun/config/training.py", "    steps: int", "    asked: bool = False\n    steps: int")
    scratch.edit("lorun/training/schedule.py", "config.warmup_steps", "(config.asked + config.warmup_steps)")
    assert scratch.reasons() == everything(TRAINED, {"train: code"}, account=False)


def test_the_definitions_that_differ_are_named(scratch):
    scratch.edit(*GAIN)
    (one,) = (one for one in scratch.judged() if (one.what, one.method) == ("rows", "gap_tv"))
    assert one.code["train"]["CASSI"] == "lorun.physics.cassi"
    assert one.reasons[0].where == ("lorun/physics/cassi.py",)


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        ("data/photos.md5", "0", "1", everything([*CS, "sr/bicubic"], {"train: data"}, account=False)),
        ("data/photos_spectral.md5", "0", "1", everything(CASSI, {"train: data"}, account=False)),
        ("data/set11.md5", "0", "1", everything(CS, {"evaluate: data"}, account=False)),
        (
            "data/registry.yaml",
            "{wavelengths: kaist}",
            "{wavelengths: cave}",
            everything(CASSI, {"train: data", "evaluate: data"}, account=False),
        ),
    ],
)
def test_other_data_make_the_rows_stale_that_use_them(scratch, path, old, new, expected):
    scratch.edit(path, old, new)
    assert scratch.reasons() == expected


def test_data_without_a_manifest_are_unknown(scratch):
    (scratch.root / "data/set11.md5").unlink()
    assert scratch.reasons() == everything(CS, {"evaluate: unknown"}, account=False)
    assert {one.state for one in scratch.judged() if one.task == "cs" and one.what == "rows"} == {"unknown"}


def test_released_weights_are_a_reason_of_their_own(scratch):
    scratch.edit("data/weights_ista_net.md5", "0", "1")
    assert scratch.reasons("published") == {f"cs/{name}": {"train: weights"} for name in ("ista_net", "ista_net_plus")}


def test_the_loop_is_no_concern_of_released_weights_and_their_names_are(scratch):
    scratch.edit("lorun/training/loop.py", "state.done += 1", "state.done += 2")
    assert scratch.reasons("published").keys() == {"cs/linear_mmse", "cs/total_variation", "cs/plug_and_play"}
    scratch.edit("lorun/training/loop.py", "state.done += 2", "state.done += 1")
    scratch.rewrite("baselines/opine_net_plus/card.yaml", lambda card: card["released_names"].update(a="b"))
    assert scratch.reasons("published") == {"cs/opine_net_plus": {"train: data", "evaluate: data"}}


def test_a_setting_of_the_training_asks_for_a_training(scratch):
    scratch.rewrite("config/scratch.yaml", lambda said: said["tasks"]["cs"].update(training={"clip_norm": 2.0}))
    again = {f"{name} account": {"account: configuration"} for name in CS}
    assert scratch.reasons() == everything(CS, {"train: configuration"}, account=False) | again
    (one,) = (one for one in scratch.judged() if (one.what, one.method) == ("rows", "lorun"))
    assert one.reasons[0].where == ("training.clip_norm 1.0 -> 2.0",)


def test_a_setting_of_the_scores_asks_for_scores_alone(scratch):
    scratch.rewrite("config/scratch.yaml", lambda said: said["tasks"]["cs"].update(evaluation={"keep": ["camera"]}))
    assert scratch.reasons() == everything(CS, {"evaluate: configuration"}, account=False)


def test_methods_come_and_go(scratch):
    def change(said):
        said["tasks"]["cs"].update(strategies=["block_k", "shared"], baselines=["linear_mmse", "ista_net_plus"])

    scratch.rewrite("config/scratch.yaml", change)
    assert scratch.reasons() == {
        "cs/lorun": {"train: not in the profile"},
        "cs/lorun account": {"account: not in the profile"},
        "cs/shared": {"train: missing"},
        "cs/shared account": {"account: missing"},
    }
    gone = [one for one in scratch.judged() if one.method == "lorun"]
    assert [(one.state, one.steps) for one in gone] == [("stale", [])] * 2


@pytest.mark.parametrize("status", ["not_run", "failed"])
def test_a_run_without_a_result_is_missing(scratch, status):
    scratch.say("status", status, method="lorun")
    assert scratch.reasons() == {"cs/lorun": {"train: missing"}}


def test_another_package_is_no_change_of_code(scratch):
    scratch.edit("requirements.lock", "torch==2.15.0", "torch==2.16.0")
    environment = {"train: environment", "evaluate: environment"}
    again = {f"{name} account": {"account: environment"} for name in TRAINED}
    assert scratch.reasons() == dict.fromkeys(TRAINED, environment) | again


@pytest.mark.parametrize(("column", "step"), [("dirty", "evaluate"), ("trained_dirty", "train")])
def test_rows_of_a_tree_with_changes_are_unknown(scratch, column, step):
    scratch.say(column, "True")
    assert scratch.reasons() == everything(TRAINED, {f"{step}: unknown"}, account=False)


def test_rows_of_no_checkout_are_unknown(scratch):
    scratch.say("commit", None)
    assert scratch.reasons() == everything(TRAINED, {"evaluate: unknown"}, account=False)


def test_a_shallow_clone_knows_nothing_of_older_rows(scratch, pristine, tmp_path):
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", pristine.as_uri(), str(shallow))
    found = Scratch(shallow, scratch.commit).judged()
    assert {one.state for one in found} == {"unknown"}
    assert found[0].reasons[0].where == (f"this clone is shallow and lacks commit {scratch.commit[:9]}",)


def test_a_folder_that_is_no_checkout_judges_nothing_fresh(scratch):
    shutil.rmtree(scratch.root / ".git")
    assert {one.state for one in scratch.judged()} == {"unknown"}


def test_scores_need_weights(scratch):
    """Where they are not there, a training comes first."""
    scratch.edit("lorun/results/rows.py", "_DIGITS = 6", "_DIGITS = 5")
    one = next(one for one in scratch.judged() if one.method == "lorun")
    assert one.steps == ["train", "evaluate"]
    one.folder.mkdir(parents=True)
    (one.folder / WEIGHTS).touch()
    assert next(one for one in scratch.judged() if one.method == "lorun").steps == ["evaluate"]


def test_a_folder_without_the_code_is_refused(tmp_path: Path):
    with pytest.raises(LorunError, match="no lorun/ here whose rows could be judged: start from the project's root"):
        Project(tmp_path)


def test_code_that_is_no_python_is_named(scratch):
    (scratch.root / "lorun/seeds.py").write_text("def :\n")
    with pytest.raises(LorunError, match=r"lorun/seeds\.py, line 1: not Python that is read here"):
        scratch.judged()
