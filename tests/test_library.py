"""The library of adapters: taken from runs, swapped on a network that stays loaded, scored."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor

from lorun.config import Profile
from lorun.denoisers.spectral import SpectralTransformerConfig
from lorun.errors import LorunError, UnknownName
from lorun.evaluation.reconstruct import evaluate_folder, load_system
from lorun.library import AdapterLibrary, evaluate_adapters, identity
from lorun.library.listing import listing
from lorun.system import System
from lorun.training import train
from lorun.unfolding import build_unfolding

CPU = torch.device("cpu")
SETS = {"quarter": ("r25", "lorun"), "tenth": ("r10", "lorun_transfer"), "tenth_own": ("r10", "lorun")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """A folder with `runs` of a profile with two settings. Not to be changed."""
    return tmp_path_factory.mktemp("library")


@pytest.fixture
def runs(made: Path, transfer_profile: Profile, tiny_data: Path) -> Path:
    for setting, method in (("r25", "pretrain"), ("r10", "pretrain"), ("r10", "block_k"), *SETS.values()):
        train(transfer_profile.experiment("cs", setting, method, 0), runs=made / "runs", data=tiny_data, device=CPU)
    return made / "runs"


@pytest.fixture
def folder_of(runs: Path, transfer_profile: Profile) -> Callable[[str, str], Path]:
    return lambda setting, method: runs / transfer_profile.experiment("cs", setting, method, 0).folder


@pytest.fixture
def library(tmp_path: Path, folder_of: Callable[[str, str], Path]) -> AdapterLibrary:
    """A library of its own with `SETS`; the first two are on one base."""
    library = AdapterLibrary(tmp_path / "adapters")
    for name, run in SETS.items():
        library.add(name, folder_of(*run))
    return library


def image() -> Tensor:
    return torch.rand(1, 1, 24, 32, generator=torch.Generator().manual_seed(0))


def files(folder: Path) -> dict[str, bytes]:
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {name: content for name, content in found.items() if name != ".lock"}


# Adding


def test_a_set_is_the_run_that_it_was_taken_from(
    library: AdapterLibrary, runs: Path, transfer_profile: Profile
) -> None:
    for name, (setting, method) in SETS.items():
        trained = load_system(transfer_profile.experiment("cs", setting, method, 0), runs)
        taken = library.system(name)
        state = taken.state_dict()
        assert state.keys() == trained.state_dict().keys()
        assert all(torch.equal(tensor, state[key]) for key, tensor in trained.state_dict().items())
        with torch.no_grad():
            assert torch.equal(taken(image()), trained(image()))


def test_a_manifest_says_what_the_set_is(
    library: AdapterLibrary, runs: Path, transfer_profile: Profile, folder_of: Callable[[str, str], Path]
) -> None:
    experiment = transfer_profile.experiment("cs", "r10", "lorun_transfer", 0)
    network = load_system(experiment, runs).network
    said = json.loads((library.folder / "sets/tenth/manifest.json").read_text())
    assert (said["name"], said["stages"], said["experiment"]["setting"]) == ("tenth", 3, "r10")
    assert said["experiment"]["lora"]["gamma"] == experiment.lora.gamma
    assert said["training"]["provenance"]["run"] == experiment.key
    assert said["step_sizes"] == network.step_sizes.tolist()
    assert set(said["ranks"].values()) == {1}
    pretrained = load_system(experiment.pretraining, runs).network.denoisers[0]
    assert said["base"] == identity(dict(pretrained.named_parameters()))
    assert (library.folder / f"bases/{said['base']}.safetensors").exists()
    counts = {kind: 4 * sum(p.numel() for p in of) for kind, of in network.parameter_kinds().items()}
    assert {kind: said["bytes"][kind] for kind in ("base", "adapters", "step_sizes")} == {
        kind: counts[kind] for kind in ("base", "adapters", "step_sizes")
    }
    assert said["bytes"]["operator"] == 4 * (6 + 6) * 64  # Phi and the initial estimate


def test_a_base_holds_what_lora_passes_over(transfer_profile: Profile, tiny_data: Path, tmp_path: Path) -> None:
    """Norms, temperatures and depthwise filters too: what a set is loaded with equals what was trained."""
    spectral = SpectralTransformerConfig(width=4, levels=2)
    library = AdapterLibrary(tmp_path / "adapters")
    for method in ("pretrain", "lorun"):
        experiment = transfer_profile.experiment("cs", "r25", method, 0).model_copy(update={"denoiser": spectral})
        train(experiment, runs=tmp_path / "runs", data=tiny_data, device=CPU)
    manifest = library.add("quarter", tmp_path / "runs" / experiment.folder)
    trained, taken = load_system(experiment, tmp_path / "runs"), library.system("quarter")
    base = load_file(library.folder / f"bases/{manifest.base}.safetensors")
    assert base.keys() == dict(spectral.build(1).named_parameters()).keys()
    assert "body.0.attention.query" in manifest.ranks
    assert (base["body.0.attention.temperature"] != 1).all()  # pretrained
    with torch.no_grad():
        assert torch.equal(taken(image()), trained(image()))


def test_sets_on_one_base_hold_it_once(library: AdapterLibrary) -> None:
    bases = {name: library.manifest(name).base for name in SETS}
    assert bases["quarter"] == bases["tenth"] != bases["tenth_own"]
    assert len(list((library.folder / "bases").iterdir())) == 2
    assert library.manifest("quarter").fits(library.manifest("tenth"))
    assert not library.manifest("tenth_own").fits(library.manifest("tenth"))


def test_the_stages_of_a_set_load_into_plain_peft(library: AdapterLibrary, transfer_profile: Profile) -> None:
    network = library.network("tenth")
    denoiser = network.denoisers[0]
    for stage in range(network.stages):
        base = transfer_profile.tasks["cs"].denoiser.build(1)
        base.load_state_dict(denoiser.base_parameters())
        plain = PeftModel.from_pretrained(base, str(library.folder / f"sets/tenth/adapters/stage_{stage + 1}"))
        denoiser.activate(stage)
        with torch.no_grad():
            torch.testing.assert_close(plain(image()), denoiser(image()))


def test_sets_on_the_base_of_another_task_take_each_other_s_place(
    tmp_path: Path, tasks_profile: Profile, tasks_data: Path
) -> None:
    library = AdapterLibrary(tmp_path / "adapters")
    methods = [("denoise", "gray", "pretrain"), ("cs", "r25", "lorun_transfer"), ("cs", "gray", "lorun_transfer")]
    for task, setting, method in methods:
        experiment = tasks_profile.experiment(task, setting, method, 0)
        train(experiment, runs=tmp_path, data=tasks_data, device=CPU)
        if method != "pretrain":
            library.add(setting, tmp_path / experiment.folder)
    denoiser = load_system(tasks_profile.experiment("denoise", "gray", "pretrain", 0), tmp_path).network.denoisers[0]
    assert {one.base for one in library.manifests()} == {identity(dict(denoiser.named_parameters()))}
    loaded = library.system("r25")
    library.swap(loaded.network, "gray")
    there = library.system("gray")
    with torch.no_grad():
        assert torch.equal(loaded(image(), there.physics), there(image()))
    frozen = tasks_profile.experiment("cs", "r25", "frozen", 0)
    train(frozen, runs=tmp_path, data=tasks_data, device=CPU)
    with pytest.raises(LorunError, match="the method 'frozen' has no adapters"):
        library.add("frozen", tmp_path / frozen.folder)


@pytest.mark.parametrize("name", ["", ".", "../tenth", "a/b", ".hidden", "two words", "active", "-x"])
def test_what_cannot_name_a_set(library: AdapterLibrary, folder_of: Callable[[str, str], Path], name: str) -> None:
    before = files(library.folder)
    with pytest.raises(LorunError, match="cannot name a set"):
        library.add(name, folder_of("r25", "lorun"))
    assert files(library.folder) == before


def test_a_name_that_is_taken(library: AdapterLibrary, folder_of: Callable[[str, str], Path]) -> None:
    before = files(library.folder)
    with pytest.raises(LorunError, match="sets/tenth: there is such a set"):
        library.add("tenth", folder_of("r25", "lorun"))
    assert files(library.folder) == before


def test_runs_that_give_no_adapters(
    tmp_path: Path, folder_of: Callable[[str, str], Path], tiny_data: Path, transfer_profile: Profile
) -> None:
    library = AdapterLibrary(tmp_path / "adapters")
    with pytest.raises(LorunError, match="nowhere: not the folder of a finished run"):
        library.add("one", tmp_path / "nowhere")
    with pytest.raises(LorunError, match="'block_k' has no adapters. Choices: lorun, lorun_transfer, lorun_random"):
        library.add("one", folder_of("r10", "block_k"))
    wild = transfer_profile.experiment("cs", "r10", "lorun_random", 0)
    training = wild.training.model_copy(update={"learning_rate": 1e30, "clip_norm": None})
    wild = wild.model_copy(update={"training": training})
    train(wild, runs=tmp_path, data=tiny_data, device=CPU)
    with pytest.raises(LorunError, match="the training is diverged: loss is"):
        library.add("one", tmp_path / wild.folder)
    shutil.copytree(folder_of("r25", "lorun"), tmp_path / "damaged")
    weights = tmp_path / "damaged/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(LorunError, match="damaged/weights.safetensors: not a "):
        library.add("one", tmp_path / "damaged")
    assert not library.folder.exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from lorun import library
moves = int(sys.argv[3])

def replace(self, target):
    global moves
    moves -= 1
    if moves < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    os.replace(self, target)

Path.replace = replace
library.AdapterLibrary(Path(sys.argv[1])).add("new", Path(sys.argv[2]))
"""


@pytest.mark.parametrize("moves", range(6))
def test_an_add_that_is_killed_leaves_no_half_a_set(
    library: AdapterLibrary, folder_of: Callable[[str, str], Path], moves: int
) -> None:
    """Killed before the first rename of a file or folder, the second, ... the last."""
    before = files(library.folder)
    command = [sys.executable, "-c", KILLED, str(library.folder), str(folder_of("r25", "lorun")), str(moves)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert library.names() == sorted(SETS)
    assert {name: content for name, content in files(library.folder).items() if name in before} == before
    library.add("new", folder_of("r25", "lorun"))
    assert not list(library.folder.rglob("*.part"))
    new = library.system("new").state_dict()
    assert all(torch.equal(tensor, new[key]) for key, tensor in library.system("quarter").state_dict().items())


# Swapping


def test_two_settings_swapped_back_and_forth_equal_freshly_loaded_networks(library: AdapterLibrary) -> None:
    fresh = {name: library.system(name) for name in ("quarter", "tenth")}
    with torch.no_grad():
        expected = {name: system(image()) for name, system in fresh.items()}
    assert not torch.allclose(expected["quarter"], expected["tenth"])
    network = library.network("quarter")
    base = {name: (p.data_ptr(), p.detach().clone()) for name, p in network.denoisers[0].base_parameters().items()}
    objects = [id(p) for p in network.parameters()]
    for name in ("tenth", "quarter", "tenth", "tenth", "quarter"):
        library.swap(network, name)
        with torch.no_grad():
            assert torch.equal(System(network, fresh[name].physics)(image()), expected[name])
    for name, parameter in network.denoisers[0].base_parameters().items():
        assert parameter.data_ptr() == base[name][0]
        assert torch.equal(parameter, base[name][1])
    assert [id(p) for p in network.parameters()] == objects
    assert all(p.requires_grad == ("lora_" in name or name == "step_sizes") for name, p in network.named_parameters())


def test_a_swap_reads_no_base(library: AdapterLibrary) -> None:
    network = library.network("quarter")
    shutil.rmtree(library.folder / "bases")
    library.swap(network, "tenth")
    with pytest.raises(LorunError, match=f"{library.manifest('tenth').base}.safetensors: no such weights file"):
        library.network("tenth")


def snapshot(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def refused(library: AdapterLibrary, network: torch.nn.Module, name: str) -> str:
    """Why a swap is refused; the network must stay as it is."""
    before = snapshot(network)
    with pytest.raises(LorunError) as error:
        library.swap(network, name)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    return str(error.value)


def test_a_set_of_another_base_is_refused_with_both_identities(library: AdapterLibrary) -> None:
    said = refused(library, library.network("tenth"), "tenth_own")
    here, there = (library.manifest(name).base[:12] for name in ("tenth", "tenth_own"))
    assert said == f"tenth_own: made for the base {there}, the network has {here}"


def test_a_set_of_other_sizes_or_for_no_adapters_is_refused(
    library: AdapterLibrary, transfer_profile: Profile, runs: Path
) -> None:
    experiment = transfer_profile.experiment("cs", "r10", "lorun", 0)
    more = experiment.unfolding.model_copy(update={"stages": 4})
    network = build_unfolding(experiment.model_copy(update={"unfolding": more}))
    assert refused(library, network, "tenth") == "tenth: made for 3 stages, the network has 4"
    rank = experiment.lora.model_copy(update={"gamma": 60})
    network = build_unfolding(experiment.model_copy(update={"lora": rank}))
    assert "tenth: made with rank 1 at `" in refused(library, network, "tenth")
    deeper = experiment.denoiser.model_copy(update={"levels": 3})
    network = build_unfolding(experiment.model_copy(update={"denoiser": deeper}))
    assert "tenth: made for another denoiser: only one of the two has" in refused(library, network, "tenth")
    block_k = load_system(transfer_profile.experiment("cs", "r10", "block_k", 0), runs).network
    assert "the network has no adapters to swap (sharing 'block_k')" in refused(library, block_k, "tenth")


@pytest.mark.parametrize("damage", ["missing", "truncated", "other"])
def test_a_damaged_set_leaves_the_network_as_it_was(library: AdapterLibrary, damage: str) -> None:
    """The last stage's file is damaged: by then the first ones have been read."""
    path = library.folder / "sets/tenth/adapters/stage_3/adapter_model.safetensors"
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        path.write_bytes((library.folder / "bases" / f"{library.manifest('tenth').base}.safetensors").read_bytes())
    assert str(path) in refused(library, library.network("quarter"), "tenth")


def test_a_damaged_base_is_named(library: AdapterLibrary) -> None:
    path = library.folder / "bases" / f"{library.manifest('tenth').base}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(LorunError, match=f"{path}: damaged: not the base of its name"):
        library.system("tenth")


# The active set


def test_one_set_is_active_of_those_that_fit_together(library: AdapterLibrary) -> None:
    def active() -> list[str]:
        return [one.name for one in library.active()]

    with pytest.raises(LorunError, match="no set is active"):
        library.manifest("active")
    first = library.activate("quarter", 1)
    assert (first.before, active()) == (None, ["quarter"])
    second = library.activate("tenth", 2)
    assert (second.before, second.repeats, active()) == ("quarter", 2, ["tenth"])
    assert second.swap_seconds > 0
    assert second.reload_seconds > 0
    set_, base = (
        library.folder / "sets/tenth",
        library.folder / "bases" / f"{library.manifest('tenth').base}.safetensors",
    )
    stages = [set_ / f"adapters/stage_{stage}/adapter_model.safetensors" for stage in (1, 2, 3)]
    assert second.swap_read == sum(path.stat().st_size for path in (*stages, set_ / "manifest.json"))
    assert second.reload_read == second.swap_read + base.stat().st_size
    assert library.manifest("active").name == "tenth"
    assert library.activate("tenth", 1).before == "tenth"
    library.activate("tenth_own", 1)
    assert active() == ["tenth", "tenth_own"]
    with pytest.raises(
        LorunError, match="several sets are active, on networks of their own: name one of tenth, tenth_"
    ):
        library.manifest("active")


def test_a_set_that_cannot_be_loaded_does_not_become_active(library: AdapterLibrary) -> None:
    library.activate("quarter", 1)
    shutil.rmtree(library.folder / "sets/tenth/adapters/stage_2")
    with pytest.raises(LorunError, match="stage_2"):
        library.activate("tenth", 1)
    assert [one.name for one in library.active()] == ["quarter"]


def test_a_set_that_was_removed_is_not_active_nor_is_its_successor(
    library: AdapterLibrary, folder_of: Callable[[str, str], Path]
) -> None:
    library.activate("quarter", 1)
    shutil.rmtree(library.folder / "sets/quarter")
    assert library.active() == []
    library.add("quarter", folder_of("r25", "lorun"))
    assert library.active() == []


def test_names_and_records_that_are_wrong(library: AdapterLibrary, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown set of adapters 'tent'. Did you mean 'tenth'?"):
        library.manifest("tent")
    with pytest.raises(LorunError, match="empty: no adapters here; `lorun adapters add NAME"):
        AdapterLibrary(tmp_path / "empty").manifest("tenth")
    (library.folder / "active.json").write_text("[")
    with pytest.raises(LorunError, match="active.json: damaged"):
        library.active()
    (library.folder / "sets/tenth/manifest.json").write_text("{}")
    with pytest.raises(LorunError, match="sets/tenth/manifest.json: damaged, or of another version"):
        library.manifest("tenth")


def test_the_listing_groups_what_fits_together(library: AdapterLibrary) -> None:
    library.activate("tenth", 1)
    text = listing(library)
    groups = [part.splitlines() for part in text.split("base ") if part]
    names = {group[0][:12]: [line.replace("*", " ").split()[0] for line in group[2:]] for group in groups}
    assert names == {
        library.manifest("tenth").base[:12]: ["quarter", "tenth"],
        library.manifest("tenth_own").base[:12]: ["tenth_own"],
    }
    (marked,) = [line for line in text.splitlines() if line.startswith("*")]
    manifest = library.manifest("tenth")
    assert marked.split() == [
        *("*", "tenth", "cs/r10", "lorun_transfer", "0", "10"),
        f"{manifest.bytes.adapters:,}",
        manifest.experiment.key,
    ]


# Scores


def test_scores_of_a_set_are_those_of_its_run(
    library: AdapterLibrary, runs: Path, transfer_profile: Profile, tiny_data: Path
) -> None:
    images = tiny_data / "tiny/test/gray"
    experiment = transfer_profile.experiment("cs", "r10", "lorun_transfer", 0)
    assert evaluate_adapters(library.folder, "tenth", images, CPU) == evaluate_folder(
        experiment, images, runs=runs, device=CPU
    )
    library.activate("tenth", 1)
    rows = evaluate_adapters(library.folder, "active", images, CPU)
    assert {row["method"] for row in rows} == {"lorun_transfer"}
