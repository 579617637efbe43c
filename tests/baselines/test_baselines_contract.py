"""Every baseline keeps the contract, and what does not keep it is found."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from deepinv.physics import Inpainting
from lorun.plugins.contract import CHECKS, KINDS, Case, Subject, targets

from lorun import plugins
from lorun.errors import LorunError, UnknownName
from lorun.plugins import contract

SUBJECTS = {name: Subject(name) for name in plugins.names()}
OWED = [(name, check, of) for name, subject in SUBJECTS.items() for check in CHECKS for of in targets(check, subject)]


def named(owed):
    name, check, case = owed
    return f"{name}-{check.name}" + ("" if case is None else f"-{case}")


@pytest.mark.parametrize("owed", OWED, ids=named)
def test_every_baseline_keeps(owed):
    name, check, case = owed
    not_applicable = check.run(case or SUBJECTS[name])
    if not_applicable is not None:
        pytest.skip(not_applicable)


def test_there_are_baselines_for_every_kind_of_operator():
    taken = {(name, case.kind) for name, subject in SUBJECTS.items() for case in subject.taken}
    assert {("linear_mmse", "block_cs"), ("ista_net_plus", "block_cs")} <= taken
    assert {(name, "cassi") for name in ("gap_tv", "gap_net", "dauhst", "rdluf", "total_variation")} <= taken
    blurred = (
        "bicubic",
        "tikhonov",
        "total_variation",
        "plug_and_play",
        "usrnet",
        "usrnet_tiny",
        "initial_reconstruction",
    )
    assert {(name, "blur_downsample") for name in blurred} <= taken
    assert {kind for _, kind in taken} == set(KINDS)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("ista_net", "cassi", "it reconstructs blocks, and CASSI has none"),
        ("linear_mmse", "cassi", "the initial estimate of CASSI is not fitted on images"),
        ("plug_and_play", "cassi", "it was made and tuned for photographs of 1 or 3 channels, not 4"),
        ("usrnet", "cassi", "it undoes blur and decimation, and CASSI does neither"),
        ("dauhst", "block_cs", "it reconstructs scenes from a CASSI snapshot, and BlockCS takes none"),
    ],
)
def test_reasons(name, kind, words):
    assert Case(name, kind, KINDS[kind].channels[0]).declined() == words


def test_scenes_of_another_number_of_bands_are_declined():
    assert Case("gap_net", "cassi", 28).declined() == "the snapshot has 4 bands, images have 28 channels"


def test_a_physics_that_a_baseline_declines_gives_the_reason():
    with pytest.raises(
        LorunError, match="baseline linear_mmse cannot be used here: Inpainting has no initial estimate"
    ):
        plugins.build("linear_mmse", Inpainting(img_size=(1, 8, 8), mask=0.5), 1)


def test_unknown_baseline_suggests_the_near_one():
    with pytest.raises(UnknownName, match="Did you mean 'ista_net_plus'"):
        plugins.load("ista_net_pluss")


# A network that keeps the contract, and ways not to.

NETWORK = """\
import torch
from torch import nn
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
REASON = 'f"{type(physics).__name__} has no blocks"'
TAKEN = f"None if isinstance(physics, BlockCS) else {REASON}"


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    """A baseline outside the suite: the network with a part of its text replaced; returns its reference."""

    def written(old: str = "", new: str = "") -> str:
        assert old in NETWORK
        folder = tmp_path / "planted"
        folder.mkdir(exist_ok=True)
        (folder / "baseline.py").write_text(NETWORK.replace(old, new) if old else NETWORK)
        card = (plugins.FOLDER / "ista_net_plus/card.yaml").read_text()
        (folder / "card.yaml").write_text(card.split("released_names")[0].replace("0.34", "null"))
        return str(folder)

    return written


def broken(reference: str) -> dict[str, str]:
    """Checks that fail -> why."""
    return {
        finding.check.name: str(finding.why) for finding in contract.examine(reference) if finding.verdict == "failed"
    }


def test_a_network_that_keeps_the_contract_passes(written):
    assert broken(written()) == {}


RETURNS = {
    "return (x + self.net(x))[..., 1:]": ("shapes", "16, 16) come back as ("),
    "return x.tolist()": ("shapes", "no tensor, but list"),
    "raise KeyError('sigma')": ("shapes", "KeyError: 'sigma' (baseline.py, line 17)"),
    "return x + self.net(x) * (1 + torch.rand(()))": ("deterministic", "two networks of one seed"),
    "self.net[0].bias.data += 0.1; return x + self.net(x)": ("deterministic", "one network gives different estimates"),
    "return x + self.net(x - x.mean())": ("batches", "an image alone comes out"),
    "return (x + self.net(x)).float()": ("batches", "an estimate in torch.float32"),
    "return x + 1e-12 * self.net(x)": ("overfitting", "20 steps on one patch bring the loss"),
    "return x + self.net(x) / 0": ("step_float32", "the loss is"),
    "return x + 0 * self.net(x)": ("step_bfloat16", "does not move network.net.0.weight, network.net.2.weight"),
    "return (x + 10 + self.net(x)) @ torch.eye(x.shape[-1]).to(x) - 10": ("half_precision", "off in bfloat16"),
    "return x * (1 + 0 * x.mean().item()) + self.net(x)": ("accounting", "cannot run on fake tensors"),
}


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("returned", RETURNS)
def test_an_estimate_that_breaks_the_contract_is_found(written, returned):
    check, why = RETURNS[returned]
    assert why in broken(written(RETURNED, returned))[check]


MADE = {
    "self.dead = nn.Parameter(torch.ones(3))": ("gradients", "reaches dead"),
    "torch.seed()": ("deterministic", "two networks of one seed"),
    "self.net_of_nobody = torch.rand(()); self.register_forward_hook(lambda s, i, x: x * s.net_of_nobody)": (
        "saving",
        "another estimate",
    ),
}


@pytest.mark.parametrize("line", MADE)
def test_a_network_that_is_made_wrong_is_found(written, line):
    check, why = MADE[line]
    assert why in broken(written(SUPER, f"{SUPER}        {line}\n"))[check]


@pytest.mark.parametrize(
    ("old", "new", "check", "why"),
    [
        (TAKEN, "'not today'", "unsupported", "it unsupported every kind"),
        (REASON, "''", "unsupported", "no reason in one line"),
        (TAKEN, "None", "card", "tasks cs, `unsupported` lets through cassi, cs, sr"),
        ("class Baseline(", "class Net(", "loads", "there is no `Baseline`. Implement class Baseline"),
        ("class Baseline(nn.Module)", "class Baseline", "loads", "no subclass of torch.nn.Module"),
        ("def unsupported", "def refuses", "loads", "has no class method `unsupported`"),
        ("def forward", "def reconstruct", "loads", "has no `forward`"),
        ("import torch\n", "import torch, nothing_of_the_kind\n", "loads", "cannot be imported: ModuleNotFoundError"),
        ("import torch\n", "import torch)\n", "loads", "cannot be imported: SyntaxError"),
    ],
)
def test_a_class_that_is_not_what_is_asked_for_is_found(written, old, new, check, why):
    assert why in broken(written(old, new))[check]


def test_parameters_far_from_the_published_ones_are_found(written):
    card = Path(written(), "card.yaml")
    said = card.read_text()
    for published, found in [("0.000153", False), ("0.5", True)]:  # 8 * 9 + 8 + 8 * 9 + 1
        card.write_text(said.replace("published_parameters_M: null", f"published_parameters_M: {published}"))
        assert ("published_parameters" in broken(str(card.parent))) == found
    card.write_text(card.read_text() + "\nparameters_differ: it is another network\n")
    assert "published_parameters" not in broken(str(card.parent))


def test_the_report_names_checks_reasons_and_what_to_implement(written):
    found = contract.report(written(RETURNED, "return (x + self.net(x)).float()"))
    text = contract.render(found)
    assert [finding.check.name for finding in found.broken] == ["batches"]
    assert "1 FAILED" in text
    assert "unsupported cassi-4: CASSI has no blocks" in text
    assert "implement: no mean over the batch; constants as buffers" in text


def test_a_baseline_that_does_not_load_has_a_report_too(written):
    text = contract.render(contract.report(written("class Baseline(nn.Module)", "class Net(nn.Module)")))
    assert "loads                 FAILED" in text
    assert "implement: a folder with card.yaml and baseline.py" in text


def test_a_folder_without_a_card_is_refused(written):
    reference = written()
    Path(reference, "card.yaml").unlink()
    with pytest.raises(LorunError, match=r"planted/ has no card.yaml. A baseline is a folder with baseline.py"):
        contract.report(reference)
    shutil.rmtree(reference)
    with pytest.raises(LorunError, match="no such folder; `lorun new baseline` writes one"):
        contract.report(reference)
