"""Models: made of runs, saved, loaded anywhere, and the same scores as the runs that they are made of."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file
from tiny import PROJECT, SPECTRAL_PROFILE, with_spec

from lorun.data.registry import read_registry
from lorun.errors import LorunError, UnknownName
from lorun.evaluation.reconstruct import evaluate, load_system
from lorun.methods import Experiment, Released
from lorun.models import Model, from_pretrained
from lorun.models import model as module
from lorun.models.description import described
from lorun.models.making import compare_scores, halved, make_model
from lorun.models.model import check_name, listing, locate, models_in, save
from lorun.profiles import Profile, load_profile
from lorun.profiles.references import check_references
from lorun.restore.operators import operator_of
from lorun.results.paths import EVALUATION
from lorun.results.store import read_evaluation, write_evaluation
from lorun.training import train
from lorun.training.outcome import read_outcome
from lorun.training.weights import load_weights

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever asks the Hub for a file fails."""

    def refuse(repository: str, file: str, **options: object) -> str:
        raise ConnectionError(f"no network\nfor {repository}/{file}")

    monkeypatch.setattr(module, "hf_hub_download", refuse)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs, which the tests share."""
    return tmp_path_factory.mktemp("models") / "runs"


@pytest.fixture
def profile(tiny_profile_file: Path) -> Profile:
    """The tiny profile with a trained baseline."""
    content = yaml.safe_load(tiny_profile_file.read_text())
    content["tasks"]["cs"]["baselines"] = ["ista_net"]
    tiny_profile_file.write_text(yaml.safe_dump(content))
    return load_profile(tiny_profile_file)


@pytest.fixture
def run(profile: Profile, runs: Path, tiny_data: Path) -> Callable[..., Experiment]:
    """Train and score a method of the tiny profile, once: run("lorun")."""

    def run(method: str) -> Experiment:
        experiment = profile.experiment("cs", "r25", method, 0)
        if experiment.base is not None:
            train(experiment.base, runs=runs, data=tiny_data, device=CPU)
        train(experiment, runs=runs, data=tiny_data, device=CPU)
        table = runs / experiment.folder / EVALUATION
        if not table.exists():
            write_evaluation(table, *evaluate(experiment, runs=runs, data=tiny_data, device=CPU))
        return experiment

    return run


@pytest.fixture
def made(
    run: Callable[..., Experiment], runs: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Path, Experiment]]:
    """The folder of a saved model, and its experiment: made("lorun", half=True)."""

    monkeypatch.setattr("lorun.models.making.HALF_TOLERANCE", 0.1)

    def made(method: str, half: bool = False) -> tuple[Path, Experiment]:
        experiment = run(method)
        model = make_model(experiment, runs=runs)
        folder = tmp_path / "saved" / f"cs-{method}"
        save(halved(model, tiny_data, CPU) if half else model, folder)
        return folder, experiment

    return made


@pytest.mark.parametrize("method", ["block_k", "shared_sigma", "lorun", "ista_net"])
def test_a_score_computed_from_a_saved_model_is_that_of_its_run(
    made: Callable[..., tuple[Path, Experiment]], runs: Path, tiny_data: Path, method: str
) -> None:
    folder, experiment = made(method)
    rows = read_evaluation(runs / experiment.folder / EVALUATION)[1]
    psnr = rows[(rows.protocol == "cs_float_y") & (rows.metric == "psnr")].value.mean()
    found = compare_scores(from_pretrained(folder), None, tiny_data, CPU)
    assert [line[:3] for line in found][:2] == [("tiny", "cs_float_y", "psnr"), ("tiny", "cs_float_y", "ssim")]
    assert found[0][3] == pytest.approx(psnr, abs=1e-9)
    assert all(abs(difference) < 1e-3 for *_, difference in found)


def test_a_profile_scores_a_saved_model_as_a_method_without_training(
    made: Callable[..., tuple[Path, Experiment]], runs: Path, tiny_data: Path, tiny_profile_file: Path
) -> None:
    folder, trained = made("lorun")
    content = yaml.safe_load(tiny_profile_file.read_text())
    task = content["tasks"]["cs"]
    task |= {"strategies": ["shipped", "block_k"], "variants": {"shipped": {"strategy": "lorun"}}}
    task |= {"denoiser": {"name": "unet", "width": 6, "levels": 1, "blocks": 1}}  # the model's sizes are its own
    task["weights"] = {"shipped": {"r25": str(folder)}, "block_k": {"r25": str(folder)}}
    tiny_profile_file.write_text(yaml.safe_dump(content))
    profile = load_profile(tiny_profile_file)
    check_references(profile, tiny_data)
    experiment = profile.experiment("cs", "r25", "shipped", 0)
    outcome = train(experiment, runs=runs, data=tiny_data, device=CPU)
    assert (outcome.steps, outcome.checkpoint_policy) == (0, "released")
    assert outcome.training_flops == (read_outcome(runs / trained.folder) or outcome).training_flops > 0
    scores = [evaluate(one, runs=runs, data=tiny_data, device=CPU).rows for one in (experiment, trained)]
    assert [row["value"] for row in scores[0]] == [row["value"] for row in scores[1]]
    with pytest.raises(LorunError, match="a model of the method 'lorun', not of 'block_k'"):
        profile.experiment("cs", "r25", "block_k", 0)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(LorunError, match="not the weights that config.json names"):
        train(experiment, runs=runs / "again", data=tiny_data, device=CPU)


def test_a_model_reconstructs_as_its_run(made: Callable[..., tuple[Path, Experiment]], runs: Path) -> None:
    folder, experiment = made("lorun")
    model, system = from_pretrained(str(folder)), load_system(experiment, runs)
    assert not model.training
    x = torch.rand(2, 1, 20, 27, generator=torch.Generator().manual_seed(0))
    physics = model.physics.at(20, 27)
    with torch.no_grad():
        assert torch.equal(model(physics(x), physics), system(x, system.physics.at(20, 27)))
    again = folder.parent / "again"
    model.save_pretrained(again)
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert (again / "config.json").read_bytes() == (folder / "config.json").read_bytes()


def test_phi_follows_from_its_seed_and_the_fitted_part_is_stored(
    made: Callable[..., tuple[Path, Experiment]],
) -> None:
    folder, _ = made("block_k")
    stored = load_file(folder / "model.safetensors")
    assert [name for name in stored if name.startswith("physics.")] == ["physics.initialiser"]
    assert json.loads((folder / "config.json").read_text())["rebuilt"] == ["physics.phi"]
    (folder / "config.json").write_text((folder / "config.json").read_text().replace('"physics.phi"', ""))
    with pytest.raises(LorunError, match=r"does not fit the network at `physics.phi`: the file lacks it"):
        from_pretrained(folder)


def test_half_precision_halves_the_network_alone(made: Callable[..., tuple[Path, Experiment]], tiny_data: Path) -> None:
    folder, _ = made("lorun", half=True)
    stored = load_file(folder / "model.safetensors")
    kinds = {name: tensor.dtype for name, tensor in stored.items()}
    assert kinds["network.step_sizes"] == kinds["physics.initialiser"] == torch.float32
    assert {kind for name, kind in kinds.items() if stored[name].dim() > 1 and "network" in name} == {torch.float16}
    adapter = load_file(folder / "adapters/stage_2/adapter_model.safetensors")
    assert {tensor.dtype for tensor in adapter.values()} == {torch.float16}
    model = from_pretrained(folder)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    model.save_pretrained(folder.parent / "again")
    for path in folder.rglob("*.*"):
        again = folder.parent / "again" / path.relative_to(folder)
        assert again.read_bytes().replace(b"again", folder.name.encode()) == path.read_bytes()
    check = model.description.check
    assert check is not None
    assert (check.dataset, check.protocol, check.metric) == ("tiny", "cs_float_y", "psnr")
    assert 0 < abs(check.half - check.full) < 0.1
    assert compare_scores(model, "tiny", tiny_data, CPU)[0][4] == pytest.approx(check.half, abs=1e-4)
    assert f"is {check.half:.4f} instead of {check.full:.4f}" in (folder / "README.md").read_text()


def test_half_precision_is_refused_where_a_score_changes_or_none_is_there(
    run: Callable[..., Experiment], runs: Path, tiny_data: Path, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorun.models.making.HALF_TOLERANCE", 0)
    with pytest.raises(LorunError, match=r"half precision changes psnr on tiny by 0\.\d{4} dB, more than 0: leave out"):
        halved(make_model(run("shared"), runs=runs), tiny_data, CPU)
    experiment = profile.experiment("cs", "r25", "block1", 0)
    train(experiment, runs=runs, data=tiny_data, device=CPU)
    with pytest.raises(LorunError, match="cs/r25/block1 seed 0 has no scores: `lorun evaluate` makes them"):
        halved(make_model(experiment, runs=runs), tiny_data, CPU)


def test_plain_peft_loads_the_adapters(made: Callable[..., tuple[Path, Experiment]]) -> None:
    folder, _ = made("lorun")
    model = from_pretrained(folder)
    denoiser = model.network.denoisers[0]
    z = torch.rand(1, 1, 24, 32, generator=torch.Generator().manual_seed(0))
    for stage in range(3):
        plain = PeftModel.from_pretrained(model.base_denoiser(), str(folder / f"adapters/stage_{stage + 1}"))
        denoiser.activate(stage)
        with torch.no_grad():
            torch.testing.assert_close(plain(z), denoiser(z))
    with pytest.raises(LorunError, match="the method 'block_k' has no adapters"):
        from_pretrained(made("block_k")[0]).base_denoiser()


def test_adapters_that_are_larger_in_peft_s_format_are_stored_once(
    profile: Profile, runs: Path, tiny_data: Path, tmp_path: Path
) -> None:
    experiment = profile.experiment("cs", "r25", "lorun_random", 0)
    experiment = with_spec(experiment, adapters=experiment.spec.adapters.model_copy(update={"layout": "loralib"}))
    train(experiment, runs=runs, data=tiny_data, device=CPU)
    save(make_model(experiment, runs=runs), tmp_path / "model")
    assert not (tmp_path / "model/adapters").exists()
    assert "plain peft" not in (tmp_path / "model/README.md").read_text()
    model, system = from_pretrained(tmp_path / "model"), load_system(experiment, runs)
    state = model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in system.state_dict().items())
    model.network.denoisers[0].save(tmp_path / "adapters")
    assert (tmp_path / "adapters/stage_3/adapter_model.safetensors").is_file()


def test_an_operator_from_files_needs_no_files(
    sr_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sr_project)
    experiment = load_profile("sr.yaml").experiment("sr", "x2", "lorun", 0)
    assert experiment.base is not None
    for one in (experiment.base, experiment):
        train(one, runs=tmp_path / "runs", data=Path("data"), device=CPU)
    save(make_model(experiment, runs=tmp_path / "runs"), tmp_path / "sr")
    system = load_system(experiment, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)  # there is no data/blurs
    model = from_pretrained("sr")
    assert model.experiment.physics == experiment.physics
    x = torch.rand(1, 3, 16, 24)
    for kernel in ("3", "1"):
        mine, theirs = (physics.at(16, 24).under(kernel) for physics in (model.physics, system.physics))
        with torch.no_grad():
            assert torch.equal(mine(x), theirs(x))
            assert torch.equal(model(mine(x), mine), system.network(theirs(x), theirs))


def test_files_that_may_not_be_passed_on_are_not_stored(
    sr_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = read_registry(PROJECT / "data")["kernels12"]
    assert entry.redistribution == "not stated"
    monkeypatch.setattr("lorun.models.description.read_registry", lambda root: {"blurs": entry})
    monkeypatch.chdir(sr_project)
    experiment = load_profile("sr.yaml").experiment("sr", "x2", "block1", 0)
    train(experiment, runs=tmp_path / "runs", data=Path("data"), device=CPU)
    made = make_model(experiment, runs=tmp_path / "runs")
    assert torch.equal(made.operator(noise=5).kernel, made.physics.kernel)
    save(made, tmp_path / "sr")
    assert not [name for name in load_weights(tmp_path / "sr/model.safetensors") if name.startswith("physics.")]
    assert "| operator here | a computed one: `data/blurs/blurs.npy`" in (tmp_path / "sr/README.md").read_text()

    model = from_pretrained(tmp_path / "sr")
    true = model.trained_operator()
    assert true.degradations == made.physics.degradations
    for name in true.degradations:
        assert torch.equal(true.under(name).kernel, made.physics.under(name).kernel)
        assert not torch.equal(model.physics.under(name).kernel[:9, :9], true.under(name).kernel)
    x = torch.rand(1, 3, 16, 24)
    physics = true.at(16, 24)
    with torch.no_grad():
        assert torch.equal(model(physics(x), physics), made(physics(x), physics))
    monkeypatch.setattr("lorun.models.description.read_registry", lambda root: {})  # as where no registry is installed
    assert torch.equal(model.trained_operator().kernel, true.kernel)
    assert torch.equal(model.operator(noise=5).kernel, model.physics.kernel)
    model.save_pretrained(tmp_path / "again" / "sr")
    for file in ("config.json", "model.safetensors", "README.md"):
        assert (tmp_path / "again" / "sr" / file).read_bytes() == (tmp_path / "sr" / file).read_bytes()
    with pytest.raises(LorunError, match="give --kernel FILE: instead of data/blurs/blurs.npy"):
        operator_of(model, CPU, measured=True)
    assert operator_of(model, CPU, measured=True, kernel=Path("data/blurs/blurs.npy"), degradation="2") is not None
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LorunError, match=r"blurs\.npy is not here: `lorun data fetch blurs` gets it"):
        model.trained_operator()


def test_an_operator_with_other_options(sr_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sr_project)
    experiment = load_profile("sr.yaml").experiment("sr", "x2", "block1", 0)
    train(experiment, runs=tmp_path / "runs", data=Path("data"), device=CPU)
    model = make_model(experiment, runs=tmp_path / "runs")
    wider = experiment.physics.model_copy(update={"scale": 3, "noise": 0.0}).build()
    monkeypatch.chdir(tmp_path)
    other = model.operator(scale=3, noise=0)
    x = torch.rand(1, 3, 24, 18)
    assert torch.equal(other.under("1")(x), wider.under("1")(x))
    with torch.no_grad():
        assert model(other(x), other).shape == x.shape
    with pytest.raises(
        LorunError, match=r"operator 'blur_downsample': `scale` \(=9\): Input should be less than or equal"
    ):
        model.operator(scale=9)
    with pytest.raises(LorunError, match=r"unknown key `scal`. Did you mean `scale`?"):
        model.operator(scal=3)


def test_weights_that_were_trained_in_another_setting(
    sr_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sr_project)
    content = yaml.safe_load(Path("sr.yaml").read_text())
    task = content["tasks"]["sr"]
    task |= {"train_in": "x2", "settings": {"x2": {"scale": 2}, "x3": {"scale": 3}}}
    task["training"]["patch"] = 18
    (tmp_path / "scales.yaml").write_text(yaml.safe_dump(content))
    profile, runs = load_profile(tmp_path / "scales.yaml"), tmp_path / "runs"
    for setting in ("x2", "x3"):
        train(profile.experiment("sr", setting, "block1", 0), runs=runs, data=Path("data"), device=CPU)
        made = make_model(profile.experiment("sr", setting, "block1", 0), runs=runs)
        save(made, tmp_path / setting)
    card = (tmp_path / "x3/README.md").read_text()
    assert "| trained as | sr/x2/block1 seed 0 |" in card
    assert "| training | 4 steps of 2 patches of 18 x 18 pixels," in card
    monkeypatch.chdir(tmp_path)
    trained, used = from_pretrained("x2"), from_pretrained("x3")
    x = torch.rand(1, 3, 24, 24)
    physics = used.physics.at(24, 24).under("1")
    assert physics.decimation == 3
    with torch.no_grad():
        assert torch.equal(used(physics(x), physics), trained(physics(x), physics))


def test_paths_of_the_machine_do_not_travel(spectral_data: Path, tmp_path: Path) -> None:
    content = json.loads(json.dumps(SPECTRAL_PROFILE))
    content["tasks"]["cassi"]["physics"] |= {"mask": "file", "mask_file": str(spectral_data / "captures/mask.mat")}
    (tmp_path / "masked.yaml").write_text(yaml.safe_dump(content))
    experiment = load_profile(tmp_path / "masked.yaml").experiment("cassi", "snapshot", "block1", 0)
    train(experiment, runs=tmp_path / "runs", data=spectral_data, device=CPU)
    save(make_model(experiment, runs=tmp_path / "runs"), tmp_path / "masked")
    config = (tmp_path / "masked/config.json").read_text()
    assert str(spectral_data) not in config
    model = from_pretrained(tmp_path / "masked")
    assert model.description.run == experiment.key
    assert torch.equal(model.physics.mask, load_system(experiment, tmp_path / "runs").physics.mask)


def test_a_card_says_what_the_model_is_and_its_python_runs(
    made: Callable[..., tuple[Path, Experiment]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, experiment = made("lorun")
    card = (folder / "README.md").read_text()
    for said in (
        "`lorun` for block-wise compressed sensing: an adapter per stage on a frozen one-stage base.",
        "| operator | ratio 25 %, Phi fixed_gaussian_8 |",
        "| base | `pretrain` of r25: phase 1 of lorun: one stage |",
        "| adapters | one per stage, gamma 10 %, ranks 1 to 1 in",
        "| training | 4 steps of 2 patches of 16 x 16 pixels, adam at 0.0005, loss mse, float32,",
        f"| run | `{experiment.key}`, by commit ",
        "| `tiny`    | not registered | not registered | not stated",
    ):
        assert said in card
    assert re.search(r"\| tiny +\| cs_float_y +\| PSNR \(dB\) \| \d+\.\d\d", card)
    monkeypatch.chdir(folder.parent)
    use, adapters = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len([line for line in use.splitlines() if line]) <= 11
    held: dict[str, object] = {}
    exec(use, held)
    assert re.fullmatch(r"PSNR \d+\.\d\d dB\n", capsys.readouterr().out)
    exec(adapters.replace("models/", ""), held)


def test_code_in_a_folder_and_weights_of_others_are_refused(
    made: Callable[..., tuple[Path, Experiment]], runs: Path
) -> None:
    folder, experiment = made("ista_net")
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"reference": "ista_net"', '"reference": "../nets/mine"'))
    message = r"the code of its network is the folder '\.\./nets/mine'; a model can only use a baseline of this suite"
    with pytest.raises(LorunError, match=message):
        from_pretrained(folder)
    outcome = read_outcome(runs / experiment.folder)
    assert outcome is not None
    with pytest.raises(LorunError, match=message):
        described(with_spec(experiment, reference="../nets/mine"), outcome)
    released = Released(name="ista_net", reference="ista_net", weights=Path("theirs.pkl"))
    with pytest.raises(LorunError, match="these weights were released by its authors; get them there"):
        described(experiment.model_copy(update={"spec": released}), outcome)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "no model here: config.json is missing"),
        (lambda f: (f / "config.json").write_text("{"), "config.json: cannot be read as JSON: Expecting property name"),
        (
            lambda f: (f / "config.json").write_text('{"model_type": "bert"}'),
            r"not the configuration of a model of this",
        ),
        (lambda f: (f / "config.json").write_text("[]"), r"`format` is None, not 1"),
        (
            lambda f: (f / "config.json").write_text('{"format": 1}'),
            "damaged, or of another version: `run` is missing;",
        ),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: no such weights file"),
        (lambda f: (f / "model.safetensors").write_text("version https://git-lfs"), "not a readable safetensors file"),
        (
            lambda f: _flip(f / "model.safetensors"),
            "model.safetensors: damaged: not the weights that config.json names",
        ),
    ],
)
def test_damaged_and_foreign_files(
    made: Callable[..., tuple[Path, Experiment]], damage: Callable[[Path], object], message: str
) -> None:
    folder, _ = made("block_k")
    damage(folder)
    with pytest.raises(LorunError, match=message) as caught:
        from_pretrained(folder)
    assert "\n" not in str(caught.value)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_names(made: Callable[..., tuple[Path, Experiment]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = made("block_k")
    store = folder.parent
    assert models_in(tmp_path / "none", store) == {"cs-block_k": folder}
    monkeypatch.setattr(module, "PLACES", (tmp_path / "none", store))
    assert locate("cs-block_k") == folder
    with pytest.raises(UnknownName, match="unknown model 'cs-blok_k'. Did you mean 'cs-block_k'?"):
        locate("cs-blok_k")
    monkeypatch.chdir(store)
    for wrong in ("../saved", "..", "/nowhere", "nowhere/cs-block_k/deep", "../saved/cs-blok_k"):
        with pytest.raises(LorunError, match=r"no such model|no model here"):
            from_pretrained(wrong)
    for wrong in ("..", "a/b", "", ".hidden", "a b"):
        with pytest.raises(LorunError, match="a model cannot be called"):
            check_name(wrong)
    assert "cs-block_k" in listing(store)
    assert (
        listing(tmp_path / "none") == f"{tmp_path / 'none'}: no models; `lorun models save` makes one of a finished run"
    )


def test_the_hub_is_asked_for_two_files_and_for_nothing_else(
    made: Callable[..., tuple[Path, Experiment]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = made("block_k")
    with pytest.raises(
        LorunError, match=r"^lab/net: cannot be fetched from the Hugging Face Hub: no network for lab/net"
    ):
        from_pretrained("lab/net")
    asked: list[object] = []

    def download(repository: str, file: str, **options: object) -> str:
        asked.append((repository, file, options))
        return str(folder / file)

    monkeypatch.setattr(module, "hf_hub_download", download)
    assert isinstance(from_pretrained("lab/net", revision="v1"), Model)
    assert asked == [("lab/net", file, {"revision": "v1"}) for file in ("config.json", "model.safetensors")]
