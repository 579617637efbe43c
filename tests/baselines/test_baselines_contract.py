"""Every baseline passes the contract, and violations are found."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from deepinv.physics import Inpainting

from lorun import contract, plugins
from lorun.contract import CHECKS, Case, NotApplicable, Subject, examine
from lorun.errors import LorunError, UnknownName
from lorun.physics import OPERATORS
from lorun.plugins.places import SUITE_FOLDER

SUBJECTS = {name: Subject(name) for name in plugins.names()}
RUNS = [
    (name, check, case) for name, subject in SUBJECTS.items() for check in CHECKS for case in check.targets(subject)
]
TASKS = {config.task for config in OPERATORS}


@pytest.mark.parametrize(
    "run", RUNS, ids=lambda run: "-".join([run[0], run[1].name, *([] if run[2] is None else [str(run[2])])])
)
def test_every_baseline_passes(run):
    name, check, case = run
    try:
        check.run(case or SUBJECTS[name])
    except NotApplicable as reason:
        pytest.skip(str(reason))


def test_every_operator_has_baselines():
    assert {case.operator.task for subject in SUBJECTS.values() for case in subject.supported} == TASKS


@pytest.mark.parametrize(
    ("name", "operator", "channels", "reason"),
    [
        ("ista_net", "cassi", 4, "it reconstructs blocks, and CASSI has none"),
        ("linear_mmse", "cassi", 4, "the initial reconstruction of CASSI is not fitted on images"),
        ("plug_and_play", "cassi", 4, "it was made and tuned for photographs of 1 or 3 channels, not 4"),
        ("usrnet", "cassi", 4, "it undoes blur and decimation, and CASSI does neither"),
        ("dauhst", "block_cs", 1, "it reconstructs scenes from a CASSI snapshot, and BlockCS takes none"),
        ("gap_net", "cassi", 28, "the snapshot has 4 bands, images have 28 channels"),
        ("bicubic", "block_cs", 1, "it undoes blur and decimation, and BlockCS does neither"),
    ],
)
def test_reasons(name, operator, channels, reason):
    assert Case(name, OPERATORS.get(operator), channels).unsupported() == reason


def test_an_unsupported_operator_is_refused_with_the_reason():
    message = "baseline linear_mmse cannot be used here: Inpainting has no initial reconstruction"
    with pytest.raises(LorunError, match=message):
        plugins.build("linear_mmse", Inpainting(img_size=(1, 8, 8), mask=0.5), 1)


def test_an_unknown_baseline_suggests_a_near_name():
    with pytest.raises(UnknownName, match="Did you mean 'ista_net_plus'"):
        plugins.load("ista_net_pluss")


# A network that passes, and violations.

NETWORK = """\
import torch
from torch import nn
from lorun.config.section import Section
from lorun.unfolding import initial_reconstruction
from lorun.physics.block_cs import BlockCS

class Baseline(nn.Module):
    def __init__(self, physics, channels):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, channels, 3, padding=1))

    @classmethod
    def unsupported(cls, physics, channels):
        return None if isinstance(physics, BlockCS) else f"{type(physics).__name__} has no blocks"

    def forward(self, y, physics):
        x = initial_reconstruction(y, physics)
        return x + self.net(x).to(x.dtype)
"""
RETURNED = "return x + self.net(x).to(x.dtype)"
SUPER = "super().__init__()\n"
INIT = "    def __init__"
REASON = 'f"{type(physics).__name__} has no blocks"'
SUPPORTED = f"None if isinstance(physics, BlockCS) else {REASON}"


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    """Write a baseline, the network with a part of its text replaced; returns its reference."""

    def written(old: str = "", new: str = "") -> str:
        assert old in NETWORK
        folder = tmp_path / "planted"
        folder.mkdir(exist_ok=True)
        (folder / "baseline.py").write_text(NETWORK.replace(old, new) if old else NETWORK)
        card = (SUITE_FOLDER / "ista_net_plus/card.yaml").read_text()
        (folder / "card.yaml").write_text(card.split("released_names")[0].replace("0.34", "null"))
        return str(folder)

    return written


def failures(reference: str, *checks: str) -> dict[str, str]:
    """Failed check -> reason, of the named checks and those that all others depend on."""
    chosen = [check for check in CHECKS if check.name in ("loads", "unsupported", *checks)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contract, "CHECKS", chosen)
        return {finding.check.name: finding.reason for finding in examine(reference).failures}


def test_a_network_that_keeps_the_contract_passes(written):
    report = examine(written())
    assert report.failures == []
    assert set(report.unsupported.values()) == {
        f"{name} has no blocks" for name in ("BlurDownsample", "CASSI", "Denoising")
    }
    assert all(check.requirement for check in CHECKS)


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    ("returned", "check", "reason"),
    [
        ("return (x + self.net(x))[..., 1:]", "shapes", "16, 16) come back as ("),
        ("return x.tolist()", "shapes", "no tensor, but list"),
        ("raise KeyError('sigma')", "shapes", "KeyError: 'sigma' (baseline.py, line 18)"),
        ("return x + self.net(x) * (1 + torch.rand(()))", "deterministic", "two networks of one seed"),
        ("self.net[0].bias.data += 0.1; return x + self.net(x)", "deterministic", "two calls give different estimates"),
        ("return x + self.net(x - x.mean())", "batches", "an image alone differs"),
        ("return (x + self.net(x)).float()", "batches", "an estimate in torch.float32"),
        ("return x + 1e-12 * self.net(x)", "overfitting", "20 steps on one patch reduce the loss"),
        ("return x + self.net(x) / 0", "training_steps", "the loss in float32 is"),
        ("return x + 0 * self.net(x)", "training_steps", "does not move network.net.0.weight, network.net.2.weight"),
        ("return x * (1 + 0 * x.mean().item()) + self.net(x)", "accounting", "cannot run on fake tensors"),
    ],
)
def test_a_wrong_estimate_is_found(written, returned, check, reason):
    assert reason in failures(written(RETURNED, returned), check)[check]


@pytest.mark.parametrize(
    ("line", "check", "reason"),
    [
        ("self.dead = nn.Parameter(torch.ones(3))", "gradients", "reaches dead"),
        ("torch.seed()", "deterministic", "two networks of one seed"),
        (
            "self.gain = torch.rand(()); self.register_forward_hook(lambda s, i, x: x * s.gain)",
            "saving",
            "the estimate differs",
        ),
    ],
)
def test_a_wrong_constructor_is_found(written, line, check, reason):
    assert reason in failures(written(SUPER, f"{SUPER}        {line}\n"), check)[check]


@pytest.mark.parametrize(
    ("old", "new", "check", "reason"),
    [
        (SUPPORTED, "'not today'", "unsupported", "no operator is supported"),
        (REASON, "''", "unsupported", "no reason in one line"),
        (RETURNED, "return x.detach()", "overfitting", "does not require grad"),
        ("class Baseline(", "class Net(", "loads", "there is no `Baseline`. Implement class Baseline"),
        ("class Baseline(nn.Module)", "class Baseline", "loads", "no subclass of torch.nn.Module"),
        ("def unsupported", "def refuses", "loads", "has no class method `unsupported`"),
        ("def forward", "def reconstruct", "loads", "has no `forward`"),
        (INIT, f"    class Options: pass\n{INIT}", "loads", "is no subclass of lorun.config.section.Section"),
        (INIT, f"    takes_base = True\n{INIT}", "loads", "`takes_base` but no method `load_base"),
        ("import torch\n", "import torch, nothing_of_the_kind\n", "loads", "cannot be imported: ModuleNotFoundError"),
        ("import torch\n", "import torch)\n", "loads", "cannot be imported: SyntaxError"),
    ],
)
def test_a_wrong_class_is_found(written, old, new, check, reason):
    assert reason in failures(written(old, new), check)[check]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("trained: true", "trained: false", "`trained` is False, but there are parameters to train"),
        ("tasks: [cs]", "tasks: [cs, sr]", "`tasks` lists sr, but `unsupported` accepts no operator of that task"),
    ],
)
def test_a_wrong_card_is_found(written, old, new, reason):
    card = Path(written(), "card.yaml")
    assert old in card.read_text()
    card.write_text(card.read_text().replace(old, new))
    assert failures(str(card.parent), "card") == {"card": reason}


def test_a_card_may_leave_out_a_supported_task(written):
    subject = Subject(written(SUPPORTED, "None"))
    assert {case.operator.task for case in subject.supported} == TASKS
    next(check for check in CHECKS if check.name == "card").run(subject)


def test_parameters_far_from_the_published_ones_are_found(written):
    card = Path(written(), "card.yaml")
    text = card.read_text()
    for published, wrong in [("0.000153", False), ("0.5", True)]:  # 8 * 9 + 8 + 8 * 9 + 1
        card.write_text(text.replace("published_parameters_M: null", f"published_parameters_M: {published}"))
        assert ("published_parameters" in failures(str(card.parent), "published_parameters")) == wrong
    card.write_text(card.read_text() + "\nparameters_differ: it is another network\n")
    assert "published_parameters" not in failures(str(card.parent), "published_parameters")


def test_a_folder_without_a_card_is_refused(written):
    reference = written()
    Path(reference, "card.yaml").unlink()
    with pytest.raises(LorunError, match=r"planted/ has no card.yaml. A baseline is a folder with baseline.py"):
        examine(reference)
    shutil.rmtree(reference)
    with pytest.raises(LorunError, match="no such folder; `lorun new baseline` writes one"):
        examine(reference)


# Options and base


def test_options_are_validated(written):
    options = "class Options(Section):\n        width: int = 8\n"
    reference = written(INIT, f"    {options}\n{INIT}")
    text = Path(reference, "baseline.py").read_text()
    text = text.replace("channels):\n        super", "channels, options):\n        super").replace(
        "s, 8", "s, options.width"
    )
    Path(reference, "baseline.py").write_text(text.replace("Conv2d(8", "Conv2d(options.width"))
    config = OPERATORS.get("block_cs").example().config
    assert plugins.build(reference, config.build(), 1).net[0].out_channels == 8
    assert plugins.build(reference, config.build(), 1, {"width": 3}).net[0].out_channels == 3
    with pytest.raises(LorunError, match=r"unknown key `widht`. Did you mean `width`\?"):
        plugins.check_options(reference, {"widht": 3})
    with pytest.raises(LorunError, match="baseline ista_net has no options, so it cannot take width"):
        plugins.check_options("ista_net", {"width": 3})
    assert plugins.check_options("ista_net", {}) is None


def test_a_base_is_given_where_it_is_needed():
    physics = OPERATORS.get("block_cs").example().config.build()
    with pytest.raises(LorunError, match="deep_plug_and_play needs a pretrained base"):
        plugins.build("deep_plug_and_play", physics, 1)
    with pytest.raises(LorunError, match="ista_net does not take a pretrained base"):
        plugins.build("ista_net", physics, 1, base=plugins.build("ista_net", physics, 1))
