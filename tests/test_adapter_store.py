"""The adapter store: sets taken from runs, swapped on a loaded network, made active."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tiny import with_spec, with_training
from torch import Tensor

from lorun.adapter_store import AdapterStore, identity, listing
from lorun.config import AdapterConfig
from lorun.denoisers.spectral import SpectralTransformerConfig
from lorun.errors import LorunError, UnknownName
from lorun.evaluation.reconstruct import load_system
from lorun.profiles import Profile
from lorun.system import System
from lorun.training import train

CPU = torch.device("cpu")
SETS = {"quarter": ("r25", "lorun"), "tenth": ("r10", "lorun_transfer"), "tenth_own": ("r10", "lorun")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Path:
    """A folder with `runs` of a profile with two settings. Not to be changed."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def runs(made: Path, transfer_profile: Profile, tiny_data: Path) -> Path:
    for setting, method in (("r25", "pretrain"), ("r10", "pretrain"), ("r10", "block_k"), *SETS.values()):
        train(transfer_profile.experiment("cs", setting, method, 0), runs=made / "runs", data=tiny_data, device=CPU)
    return made / "runs"


@pytest.fixture
def folder_of(runs: Path, transfer_profile: Profile) -> Callable[[str, str], Path]:
    return lambda setting, method: runs / transfer_profile.experiment("cs", setting, method, 0).folder


@pytest.fixture
def store(tmp_path: Path, folder_of: Callable[[str, str], Path]) -> AdapterStore:
    """A store of its own with `SETS`; the first two are on one base."""
    store = AdapterStore(tmp_path / "adapters")
    for name, run in SETS.items():
        store.add(name, folder_of(*run))
    return store


def image() -> Tensor:
    return torch.rand(1, 1, 24, 32, generator=torch.Generator().manual_seed(0))


def files(folder: Path) -> dict[str, bytes]:
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {name: content for name, content in found.items() if name != ".lock"}


# Adding


def test_a_set_equals_its_run(store: AdapterStore, runs: Path, transfer_profile: Profile) -> None:
    for name, (setting, method) in SETS.items():
        trained = load_system(transfer_profile.experiment("cs", setting, method, 0), runs)
        taken = store.system(name)
        state = taken.state_dict()
        assert state.keys() == trained.state_dict().keys()
        assert all(torch.equal(tensor, state[key]) for key, tensor in trained.state_dict().items())
        with torch.no_grad():
            assert torch.equal(taken(image()), trained(image()))


def test_a_manifest_describes_the_set(
    store: AdapterStore, runs: Path, transfer_profile: Profile, folder_of: Callable[[str, str], Path]
) -> None:
    experiment = transfer_profile.experiment("cs", "r10", "lorun_transfer", 0)
    network = load_system(experiment, runs).network
    manifest = json.loads((store.folder / "sets/tenth/manifest.json").read_text())
    assert (manifest["name"], manifest["stages"], manifest["experiment"]["setting"]) == ("tenth", 3, "r10")
    assert manifest["experiment"]["spec"]["adapters"]["gamma"] == experiment.spec.adapters.gamma
    assert manifest["training"]["provenance"]["run"] == experiment.key
    assert manifest["step_sizes"] == network.step_sizes.tolist()
    assert set(manifest["ranks"].values()) == {1}
    pretrained = load_system(experiment.base, runs).network.denoisers[0]
    assert manifest["base"] == identity(dict(pretrained.named_parameters()))
    assert (store.folder / f"bases/{manifest['base']}.safetensors").exists()
    counts = {kind: 4 * sum(p.numel() for p in group) for kind, group in network.parameter_kinds().items()}
    assert {kind: manifest["bytes"][kind] for kind in ("base", "adapters", "step_sizes")} == {
        kind: counts[kind] for kind in ("base", "adapters", "step_sizes")
    }
    assert manifest["bytes"]["operator"] == 4 * (6 + 6) * 64  # Phi and the initial estimate


def test_a_base_includes_layers_that_lora_skips(transfer_profile: Profile, tiny_data: Path, tmp_path: Path) -> None:
    """Norms, temperatures and depthwise filters too: what a set is loaded with equals what was trained."""
    spectral = SpectralTransformerConfig(width=4, levels=2)
    store = AdapterStore(tmp_path / "adapters")
    for method in ("pretrain", "lorun"):
        experiment = transfer_profile.experiment("cs", "r25", method, 0)
        if experiment.base is not None:
            experiment = with_spec(experiment, base=with_spec(experiment.base, denoiser=spectral))
        experiment = with_spec(experiment, denoiser=spectral)
        train(experiment, runs=tmp_path / "runs", data=tiny_data, device=CPU)
    manifest = store.add("quarter", tmp_path / "runs" / experiment.folder)
    trained, taken = load_system(experiment, tmp_path / "runs"), store.system("quarter")
    base = load_file(store.folder / f"bases/{manifest.base}.safetensors")
    assert base.keys() == dict(spectral.build(1).named_parameters()).keys()
    assert "body.0.attention.query" in manifest.ranks
    assert (base["body.0.attention.temperature"] != 1).all()  # pretrained
    with torch.no_grad():
        assert torch.equal(taken(image()), trained(image()))


def test_a_set_in_loralibs_layout_equals_its_run(transfer_profile: Profile, tiny_data: Path, tmp_path: Path) -> None:
    store = AdapterStore(tmp_path / "adapters")
    loralib = AdapterConfig(gamma=30, layout="loralib", scaling="alpha_over_r", alpha=2)
    train(transfer_profile.experiment("cs", "r25", "pretrain", 0), runs=tmp_path / "runs", data=tiny_data, device=CPU)
    experiment = with_spec(transfer_profile.experiment("cs", "r25", "lorun", 0), adapters=loralib)
    train(experiment, runs=tmp_path / "runs", data=tiny_data, device=CPU)
    store.add("quarter", tmp_path / "runs" / experiment.folder)
    trained, taken = load_system(experiment, tmp_path / "runs"), store.system("quarter")
    state = taken.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in trained.state_dict().items())
    before = [adapter.clone() for adapter in taken.network.parameter_kinds()["adapters"]]
    with torch.no_grad():
        for adapter in taken.network.parameter_kinds()["adapters"]:
            adapter.zero_()
    store.swap(taken.network, "quarter")
    assert any(adapter.any() for adapter in before)
    assert all(map(torch.equal, taken.network.parameter_kinds()["adapters"], before))
    other = with_spec(experiment, adapters=AdapterConfig(gamma=30)).build_network(experiment.physics.build())
    with pytest.raises(LorunError, match="made for the base|does not fit the network"):
        store.swap(other, "quarter")


def test_a_shared_base_is_stored_once(store: AdapterStore) -> None:
    bases = {name: store.manifest(name).base for name in SETS}
    assert bases["quarter"] == bases["tenth"] != bases["tenth_own"]
    assert len(list((store.folder / "bases").iterdir())) == 2


def test_the_stages_of_a_set_load_into_plain_peft(store: AdapterStore, transfer_profile: Profile) -> None:
    network = store.system("tenth").network
    denoiser = network.denoisers[0]
    for stage in range(network.stages):
        base = transfer_profile.tasks["cs"].denoiser.build(1)
        base.load_state_dict(denoiser.base_parameters())
        plain = PeftModel.from_pretrained(base, str(store.folder / f"sets/tenth/adapters/stage_{stage + 1}"))
        denoiser.activate(stage)
        with torch.no_grad():
            torch.testing.assert_close(plain(image()), denoiser(image()))


def test_sets_on_a_base_of_another_task_can_be_swapped(
    tmp_path: Path, tasks_profile: Profile, tasks_data: Path
) -> None:
    store = AdapterStore(tmp_path / "adapters")
    methods = [("denoise", "gray", "pretrain"), ("cs", "r25", "lorun_transfer"), ("cs", "gray", "lorun_transfer")]
    for task, setting, method in methods:
        experiment = tasks_profile.experiment(task, setting, method, 0)
        train(experiment, runs=tmp_path, data=tasks_data, device=CPU)
        if method != "pretrain":
            store.add(setting, tmp_path / experiment.folder)
    denoiser = load_system(tasks_profile.experiment("denoise", "gray", "pretrain", 0), tmp_path).network.denoisers[0]
    assert {store.manifest(name).base for name in store.names()} == {identity(dict(denoiser.named_parameters()))}
    loaded = store.system("r25")
    store.swap(loaded.network, "gray")
    there = store.system("gray")
    with torch.no_grad():
        assert torch.equal(loaded(image(), there.physics), there(image()))
    frozen = tasks_profile.experiment("cs", "r25", "frozen", 0)
    train(frozen, runs=tmp_path, data=tasks_data, device=CPU)
    with pytest.raises(LorunError, match="the method 'frozen' has no adapters"):
        store.add("frozen", tmp_path / frozen.folder)


@pytest.mark.parametrize("name", ["", ".", "../tenth", "a/b", ".hidden", "two words", "active", "-x"])
def test_invalid_names(store: AdapterStore, folder_of: Callable[[str, str], Path], name: str) -> None:
    before = files(store.folder)
    with pytest.raises(LorunError, match="cannot name a set"):
        store.add(name, folder_of("r25", "lorun"))
    assert files(store.folder) == before


def test_a_name_in_use(store: AdapterStore, folder_of: Callable[[str, str], Path]) -> None:
    before = files(store.folder)
    with pytest.raises(LorunError, match="sets/tenth: exists; choose another name"):
        store.add("tenth", folder_of("r25", "lorun"))
    assert files(store.folder) == before


def test_runs_without_adapters(
    tmp_path: Path, folder_of: Callable[[str, str], Path], tiny_data: Path, transfer_profile: Profile
) -> None:
    store = AdapterStore(tmp_path / "adapters")
    with pytest.raises(LorunError, match="nowhere: not the folder of a finished run"):
        store.add("one", tmp_path / "nowhere")
    with pytest.raises(LorunError, match="'block_k' has no adapters"):
        store.add("one", folder_of("r10", "block_k"))
    wild = transfer_profile.experiment("cs", "r10", "lorun_random", 0)
    wild = with_training(wild, learning_rate=1e30, clip_norm=None)
    train(wild, runs=tmp_path, data=tiny_data, device=CPU)
    with pytest.raises(LorunError, match="the training is diverged: loss is"):
        store.add("one", tmp_path / wild.folder)
    shutil.copytree(folder_of("r25", "lorun"), tmp_path / "damaged")
    weights = tmp_path / "damaged/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(LorunError, match="damaged/weights.safetensors: cut or changed"):
        store.add("one", tmp_path / "damaged")
    assert not store.folder.exists()


def killed_add(store: AdapterStore, run: Path, renames: int) -> int:
    """Add a set in a fork of this process that is killed after so many renames; return its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    done = 0

    def replace(self: Path, target: Path) -> None:
        nonlocal done
        if done == renames:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        os.replace(self, target)

    try:
        Path.replace = replace
        store.add("new", run)
    finally:
        os._exit(0)


@pytest.mark.parametrize("renames", range(5))
def test_a_killed_add_leaves_no_partial_set(
    store: AdapterStore, folder_of: Callable[[str, str], Path], renames: int
) -> None:
    """Killed before the first rename of a file or folder, the second, ... the last."""
    before = files(store.folder)
    assert killed_add(store, folder_of("r25", "lorun"), renames) == -signal.SIGKILL
    assert store.names() == sorted(SETS)
    assert {name: content for name, content in files(store.folder).items() if name in before} == before
    store.add("new", folder_of("r25", "lorun"))
    assert not list(store.folder.rglob("*.part"))
    new = store.system("new").state_dict()
    assert all(torch.equal(tensor, new[key]) for key, tensor in store.system("quarter").state_dict().items())


# Swapping


def test_a_swapped_network_equals_a_freshly_loaded_one(store: AdapterStore) -> None:
    fresh = {name: store.system(name) for name in ("quarter", "tenth")}
    with torch.no_grad():
        expected = {name: system(image()) for name, system in fresh.items()}
    assert not torch.allclose(expected["quarter"], expected["tenth"])
    network = store.system("quarter").network
    base = {name: (p.data_ptr(), p.detach().clone()) for name, p in network.denoisers[0].base_parameters().items()}
    objects = [id(p) for p in network.parameters()]
    for name in ("tenth", "quarter", "tenth", "tenth", "quarter"):
        store.swap(network, name)
        with torch.no_grad():
            assert torch.equal(System(network, fresh[name].physics)(image()), expected[name])
    for name, parameter in network.denoisers[0].base_parameters().items():
        assert parameter.data_ptr() == base[name][0]
        assert torch.equal(parameter, base[name][1])
    assert [id(p) for p in network.parameters()] == objects
    assert all(p.requires_grad == ("lora_" in name or name == "step_sizes") for name, p in network.named_parameters())


def test_a_swap_reads_no_base(store: AdapterStore) -> None:
    network = store.system("quarter").network
    shutil.rmtree(store.folder / "bases")
    store.swap(network, "tenth")
    with pytest.raises(LorunError, match=f"{store.manifest('tenth').base}.safetensors: no such weights file"):
        store.system("tenth")


def snapshot(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def refused(store: AdapterStore, network: torch.nn.Module, name: str) -> str:
    """Why a swap is refused; the network must not change."""
    before = snapshot(network)
    with pytest.raises(LorunError) as error:
        store.swap(network, name)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    return str(error.value)


def test_a_set_of_another_base_is_refused(store: AdapterStore) -> None:
    message = refused(store, store.system("tenth").network, "tenth_own")
    here, there = (store.manifest(name).base[:12] for name in ("tenth", "tenth_own"))
    assert message == f"tenth_own: made for the base {there}, the network has {here}"


def test_a_network_of_other_sizes_or_without_adapters_is_refused(
    store: AdapterStore, transfer_profile: Profile, runs: Path
) -> None:
    experiment = transfer_profile.experiment("cs", "r10", "lorun", 0)
    physics = experiment.physics.build()
    for field, value, reason in (
        ("stages", 4, "tenth: made for 3 stages, the network has 4"),
        ("adapters", AdapterConfig(gamma=60), "tenth: made with rank 1 at `"),
        ("denoiser", experiment.spec.denoiser.model_copy(update={"levels": 3}), "tenth: made with rank 1 at `"),
    ):
        other = with_spec(experiment, **{field: value}).build_network(physics)
        assert refused(store, other, "tenth").startswith(reason)
    block_k = load_system(transfer_profile.experiment("cs", "r10", "block_k", 0), runs).network
    assert "the network has no adapters to swap (sharing 'per_stage')" in refused(store, block_k, "tenth")


@pytest.mark.parametrize("damage", ["missing", "truncated", "other"])
def test_a_damaged_set_leaves_the_network_unchanged(store: AdapterStore, damage: str) -> None:
    """The last stage's file is damaged: by then the first ones have been read."""
    path = store.folder / "sets/tenth/adapters/stage_3/adapter_model.safetensors"
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        path.write_bytes((store.folder / "bases" / f"{store.manifest('tenth').base}.safetensors").read_bytes())
    assert str(path) in refused(store, store.system("quarter").network, "tenth")


@pytest.mark.parametrize("file", ["adapters/stage_2/adapter_model.safetensors", "operator.safetensors"])
def test_a_flipped_bit_of_a_set_is_noticed(store: AdapterStore, file: str) -> None:
    network = store.system("quarter").network
    path = store.folder / "sets/tenth" / file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    words = f"{path}: gone, cut or changed; remove tenth and add it again"
    assert refused(store, network, "tenth") == words
    with pytest.raises(LorunError, match=words):
        store.system("tenth")


def test_a_damaged_base_is_named(store: AdapterStore) -> None:
    path = store.folder / "bases" / f"{store.manifest('tenth').base}.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(LorunError, match=f"{path}: damaged: not the base of this name"):
        store.system("tenth")


# The active set


def test_one_set_is_active(store: AdapterStore) -> None:
    with pytest.raises(LorunError, match="no set is active"):
        store.manifest("active")
    for name, active in (("quarter", "quarter"), ("tenth_own", "tenth_own"), ("active", "tenth_own")):
        store.activate(name)
        assert store.active() == active
    assert store.manifest("active").name == "tenth_own"


def test_a_swap_is_faster_than_a_reload(store: AdapterStore) -> None:
    swap, reload = store.time_swap("quarter", 3)
    assert 0 < swap < reload


def test_a_set_that_cannot_be_loaded_does_not_become_active(store: AdapterStore) -> None:
    store.activate("quarter")
    shutil.rmtree(store.folder / "sets/tenth/adapters/stage_2")
    with pytest.raises(LorunError, match="stage_2"):
        store.activate("tenth")
    assert store.active() == "quarter"


def test_a_removed_set_is_not_active_and_neither_is_its_replacement(
    store: AdapterStore, folder_of: Callable[[str, str], Path]
) -> None:
    store.activate("quarter")
    shutil.rmtree(store.folder / "sets/quarter")
    assert store.active() is None
    store.add("quarter", folder_of("r25", "lorun"))
    assert store.active() is None


def test_unknown_names_and_damaged_manifests(store: AdapterStore, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown set of adapters 'tent'. Did you mean 'tenth'?"):
        store.manifest("tent")
    with pytest.raises(LorunError, match="empty: no adapters here; `lorun adapters add NAME"):
        AdapterStore(tmp_path / "empty").manifest("tenth")
    (store.folder / "sets/tenth/manifest.json").write_text("{}")
    with pytest.raises(LorunError, match="sets/tenth/manifest.json: damaged, or of another version"):
        store.manifest("tenth")


def test_the_listing_sorts_by_base(store: AdapterStore) -> None:
    store.activate("tenth")
    titles, *lines = listing(store).splitlines()
    assert titles.split() == ["name", "base", "stages", "ranks", "bytes", "run"]
    bases = [line.replace("*", " ").split()[1] for line in lines]
    assert bases == sorted(bases)
    (marked,) = [line for line in lines if line.startswith("*")]
    one = store.manifest("tenth")
    size = f"{one.bytes['adapters']:,}"
    expected = ["*", "tenth", one.base[:12], "3", "1-1", size, *one.experiment.name.split()]
    assert marked.split() == expected
