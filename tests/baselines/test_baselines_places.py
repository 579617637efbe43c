"""Finding baselines: their names, places and digests."""

import shutil
import sys
from pathlib import Path

import pytest
import torch

from lorun import extensions, plugins
from lorun.errors import LorunError, UnknownName
from lorun.physics.block_cs import BlockCSConfig
from lorun.plugins import places
from lorun.plugins.places import SUITE_FOLDER, check_name, find, names
from lorun.plugins.scaffold import write_baseline
from lorun.profiles import load_profile
from lorun.provenance import provenance
from lorun.system import build_system
from lorun.training.loop import train
from lorun.training.outcome import WEIGHTS
from lorun.training.weights import load_weights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder outside the repository."""
    write_baseline("my_net", tmp_path / "lab")
    return tmp_path / "lab/my_net"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def make_package(root: Path, name: str, version: str, entry: str) -> Path:
    """A package as pip installs it, into a folder of the path, with the baseline `NAME.nets.my_net`; its folder."""
    package = root / name
    write_baseline(f"net_of_{name}", package / "nets")[1].rename(package / "nets/my_net")
    for part in (package, package / "nets"):
        (part / "__init__.py").write_text("")
    info = root / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[lorun.baselines]\n{entry}\n")
    extensions._declared.cache_clear()
    return package


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder of installed packages; those of a test are forgotten after it."""
    root = tmp_path / "site"
    root.mkdir()
    monkeypatch.syspath_prepend(root)
    before = set(sys.modules)
    yield root
    for name in set(sys.modules) - before:
        if name.startswith("lab_"):
            del sys.modules[name]


def build(reference: str) -> torch.nn.Module:
    return plugins.build(reference, BlockCSConfig(ratio=25, block=8).build(), 1)


def test_a_folder_anywhere_is_a_baseline(folder, monkeypatch):
    place = find(str(folder))
    assert (place.name, place.folder, place.package, place.outside) == ("my_net", folder, None, True)
    assert plugins.card(str(folder)).title == "my_net"
    assert sum(p.numel() for p in build(str(folder)).parameters()) == 3 * (16 * 9 + 16 + 16 * 9 + 1 + 1)
    monkeypatch.chdir(folder)
    assert find(".").name == find("../my_net").name == "my_net"


def test_modules_of_a_folder_import_each_other_with_a_dot(folder):
    (folder / "layers.py").write_text("WIDTH = 5\n")
    edit(
        folder / "baseline.py",
        "from torch import Tensor, nn",
        "from torch import Tensor, nn\n\nfrom .layers import WIDTH",
    )
    edit(folder / "baseline.py", "width: int = 16", "width: int = WIDTH")
    assert build(str(folder)).unrolled[0].refine[0].out_channels == 5


def test_two_folders_of_one_name_are_two_networks(folder, tmp_path):
    other = tmp_path / "other/my_net"
    shutil.copytree(folder, other)
    edit(other / "baseline.py", "width: int = 16", "width: int = 5")
    widths = [build(str(where)).unrolled[0].refine[0].out_channels for where in (folder, other, folder)]
    assert widths == [16, 5, 16]
    assert find(str(folder)).digest != find(str(other)).digest


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("baseline.py", "\n\n# a comment\n", False),
        ("baseline.py", "\n\nWIDTH = 3\n", True),
        ("card.yaml", "\nparameters_differ: hardly\n", False),
        ("notes.md", "what we tried", False),
        (".hidden", "editor", False),
        ("__pycache__/baseline.pyc", "bytes", False),
        ("layers.py", "", True),
        ("prior/weights.bin", "numbers", True),
    ],
)
def test_the_digest_is_of_what_the_code_does(folder, file, text, changes):
    before = find(str(folder)).digest
    (folder / file).parent.mkdir(exist_ok=True)
    with (folder / file).open("a") as stream:
        stream.write(text)
    assert (find(str(folder)).digest != before) == changes


def test_the_digest_is_the_same_wherever_the_folder_lies(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "elsewhere/my_net")
    assert find(str(tmp_path / "elsewhere/my_net")).digest == find(str(folder)).digest


def test_docstrings_and_layout_do_not_count(folder):
    before = find(str(folder)).digest
    edit(folder / "baseline.py", '"""my_net. CHANGE', '"""Ours. CHANGE')
    edit(folder / "baseline.py", "(channels, width, 3, padding=1)", "(\n    channels, width, 3, padding=1)")
    assert find(str(folder)).digest == before
    edit(folder / "baseline.py", "padding=1), nn.ReLU()", "padding=1), nn.GELU()")
    assert find(str(folder)).digest != before


def test_an_entry_point_of_an_installed_package_is_a_baseline(site):
    package = make_package(site, "lab_nets", "1.2", "my_net = lab_nets.nets.my_net")
    place = find("my_net")
    assert (place.folder, place.package, place.root) == (package / "nets/my_net", "lab_nets 1.2", package)
    assert type(build("my_net")).__module__ == "lab_nets.nets.my_net.baseline"
    before = place.digest
    (package / "layers.py").write_text("WIDTH = 5\n")  # of the package, which the network may import
    assert find("my_net").digest != before
    with pytest.raises(UnknownName, match="Did you mean 'my_net'"):
        find("my_nets")


def test_a_name_that_two_packages_claim_is_refused(site):
    make_package(site, "lab_nets", "1.2", "my_net = lab_nets.nets.my_net")
    make_package(site, "lab_other", "2", "my_net = lab_other.nets.my_net\nista_net = lab_other.nets.my_net")
    with pytest.raises(LorunError, match=r"2 baselines are called 'my_net': lab_(nets|other).nets.my_net of lab_"):
        find("my_net")
    with pytest.raises(
        LorunError, match=r"called 'ista_net': baselines/ista_net, lab_other.nets.my_net of lab_other 2"
    ):
        find("ista_net")
    assert find("ista_net_plus").folder == SUITE_FOLDER / "ista_net_plus"


@pytest.mark.parametrize(
    "value", ["lab_nets.nets", "lab_nets.nets.nothing", "lab_nets.nets.my_net:Baseline", "nowhere.at_all"]
)
def test_an_entry_point_that_is_no_folder_of_a_baseline_is_told(site, value):
    make_package(site, "lab_nets", "1.2", f"my_net = {value}")
    with pytest.raises(LorunError, match=rf"entry point '{value}' of lab_nets 1.2"):
        find("my_net")


def test_names_do_not_clash(tmp_path, site):
    shutil.copytree(SUITE_FOLDER / "ista_net", tmp_path / "ista_net")
    with pytest.raises(LorunError, match="the name .ista_net. is taken"):
        find(str(tmp_path / "ista_net"))
    make_package(site, "lab_nets", "1.2", "theirs = lab_nets.nets.my_net")
    shutil.copytree(SUITE_FOLDER / "ista_net", tmp_path / "theirs")
    with pytest.raises(LorunError, match="the name .theirs. is taken"):
        find(str(tmp_path / "theirs"))


@pytest.mark.parametrize(
    ("name", "words"),
    [("my-net", "such as 'my_net'"), ("2d", "'my_2d'"), ("deep_plug_and_play", "is taken; rename the folder")],
)
def test_a_folder_that_cannot_be_a_method_is_refused(folder, name, words):
    shutil.copytree(folder, folder.with_name(name))
    with pytest.raises(LorunError, match=words):
        find(str(folder.with_name(name)))


def test_names_of_other_methods_are_reserved(profile, tiny_profile_file, folder):
    with pytest.raises(LorunError, match="cannot be called 'lorun': these methods exist already: shared, lorun"):
        check_name("lorun", ("shared", "lorun"))
    folder.rename(folder.with_name("lorun_transfer"))
    edit(tiny_profile_file, str(folder), str(folder.with_name("lorun_transfer")))
    with pytest.raises(LorunError, match="a baseline cannot be called 'lorun_transfer'"):
        profile()


def test_an_installation_without_the_folder_of_the_suite_finds_paths_and_packages(folder, site, monkeypatch):
    monkeypatch.setattr(places, "SUITE_FOLDER", folder / "missing")
    make_package(site, "lab_nets", "1.2", "theirs = lab_nets.nets.my_net")
    assert names() == []
    assert build(str(folder)).stages == build("theirs").stages == 3
    with pytest.raises(UnknownName, match="unknown baseline 'ista_net'. Choices: theirs"):
        find("ista_net")
    with pytest.raises(LorunError, match="this is not a checkout of the suite: choose a folder with --into"):
        write_baseline("another")


def test_every_folder_is_a_package_of_its_own_named_by_the_suite(folder):
    for reference in ("ista_net", str(folder)):
        module = sys.modules[plugins.load(reference).__module__]
        assert module.__name__.startswith("lorun_plugin_")
        assert module.__file__ == str(find(reference).folder / "baseline.py")
    assert not [name for name in sys.modules if name.split(".")[0] == "baselines"]


def test_the_suites_own_are_called_by_their_names():
    with pytest.raises(LorunError, match="belongs to the suite: call it 'ista_net'"):
        find(str(SUITE_FOLDER / "ista_net"))
    assert not any(find(name).outside for name in names())


def test_a_folder_here_without_a_slash_is_told_how_to_say(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    with pytest.raises(
        LorunError, match="no baseline is called 'my_net'; for the folder of that name write './my_net'"
    ):
        find("my_net")


# In a profile


@pytest.fixture
def profile(tiny_profile_file, folder):
    """The tiny profile with the folder as its last baseline."""
    edit(tiny_profile_file, "- linear_mmse", f"- linear_mmse\n    - {folder}")
    return lambda: load_profile(tiny_profile_file)


def test_a_profile_names_the_folder_and_everything_else_the_name(profile):
    read = profile()
    assert read.tasks["cs"].methods[-2:] == ["linear_mmse", "my_net"]
    experiment = read.experiment("cs", "r25", "my_net", 0)
    assert experiment.folder.parts[:3] == ("cs", "r25", "my_net")
    assert sum(p.numel() for p in build_system(experiment).network.parameters()) > 0


def test_other_code_is_another_run_and_another_place_is_not(profile, folder, tiny_profile_file, tmp_path):
    def keys():
        experiment = profile().experiment("cs", "r25", "my_net", 0)
        return experiment.key, experiment.account_key, experiment.config_hash

    before = keys()
    shutil.copytree(folder, tmp_path / "moved/my_net")
    edit(tiny_profile_file, str(folder), str(tmp_path / "moved/my_net"))
    assert keys() == before
    edit(tmp_path / "moved/my_net/baseline.py", "width: int = 16", "width: int = 5")
    assert not set(keys()) & set(before)


def test_released_weights_of_other_code_are_another_run(profile, folder, tiny_profile_file):
    edit(tiny_profile_file, "    strategies:", "    weights: {my_net: {r25: weights.pkl}}\n    strategies:")

    def key():
        experiment = profile().experiment("cs", "r25", "my_net", 0)
        assert experiment.spec.weights == Path("weights.pkl")
        return experiment.key

    before = key()
    edit(folder / "baseline.py", "width: int = 16", "width: int = 5")
    assert key() != before


def test_a_row_says_which_code_it_is_of_and_where_that_lies(profile, folder):
    read = profile()
    experiment = read.experiment("cs", "r25", "my_net", 0)
    versions = provenance(experiment, {}, torch.device("cpu"))["versions"]
    assert versions.split()[-1] == f"my_net={find(str(folder)).digest}@{folder}"
    own = provenance(read.experiment("cs", "r25", "linear_mmse", 0), {}, torch.device("cpu"))["versions"]
    assert "@" not in own


STARTS_FROM_A_BASE = """\
from torch import nn
from lorun.unfolding import load_denoiser

class Baseline(nn.Module):
    takes_base = True

    def __init__(self, physics, channels, base):
        super().__init__()
        self.network = base
        self.network.denoisers.requires_grad_(False)

    @classmethod
    def unsupported(cls, physics, channels):
        return None

    def load_base(self, state, step_size):
        load_denoiser(dict(self.network.denoisers[0].named_parameters()), state)

    def forward(self, y, physics):
        return self.network(y, physics)
"""


def test_a_trained_baseline_can_start_from_a_base(profile, folder, tiny_profile_file, tiny_data, tmp_path):
    (folder / "baseline.py").write_text(STARTS_FROM_A_BASE)
    with pytest.raises(LorunError, match="my_net needs a pretrained base"):
        build_system(profile().experiment("cs", "r25", "my_net", 0))
    edit(tiny_profile_file, "    strategies:", "    base: {my_net: {setting: r25}}\n    strategies:")
    experiment = profile().experiment("cs", "r25", "my_net", 0)
    assert experiment.base == profile().experiment("cs", "r25", "pretrain", 0)
    for one in (experiment.base, experiment):
        outcome = train(one, runs=tmp_path / "runs", data=tiny_data, device=torch.device("cpu"))
    assert (outcome.status, outcome.steps, outcome.total_steps) == ("completed", 8, 12)
    ours, base = (load_weights(tmp_path / "runs" / one.folder / WEIGHTS) for one in (experiment, experiment.base))
    denoiser = [name for name in base if ".denoisers." in name]
    assert denoiser
    assert all(torch.equal(ours[name.replace("network.", "network.network.", 1)], base[name]) for name in denoiser)


def test_a_base_for_a_baseline_that_takes_none_is_refused(profile, tiny_profile_file):
    edit(tiny_profile_file, "    strategies:", "    base: {my_net: {setting: r25}}\n    strategies:")
    with pytest.raises(LorunError, match="my_net does not take a pretrained base"):
        build_system(profile().experiment("cs", "r25", "my_net", 0))


def test_an_experiment_survives_its_json(profile):
    experiment = profile().experiment("cs", "r25", "my_net", 0)
    again = type(experiment).model_validate_json(experiment.model_dump_json())
    assert again == experiment
    assert again.key == experiment.key


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("my_net", "my_nett"), "my_nett: no such folder"),
        (("- linear_mmse", "- linear_mse"), "unknown baseline 'linear_mse'. Did you mean 'linear_mmse'"),
        (("- linear_mmse", "- linear_mmse\n    - linear_mmse"), "two methods have one name: linear_mmse"),
    ],
)
def test_a_profile_whose_baseline_is_not_there_is_one_line(profile, tiny_profile_file, change, words):
    edit(tiny_profile_file, *change)
    with pytest.raises(LorunError, match=words) as error:
        profile()
    assert "\n" not in str(error.value)


def test_two_folders_of_one_name_in_one_task_are_refused(profile, tiny_profile_file, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "other/my_net")
    edit(tiny_profile_file, f"- {folder}", f"- {folder}\n    - {tmp_path / 'other/my_net'}")
    with pytest.raises(LorunError, match="two methods have one name: my_net"):
        profile()
