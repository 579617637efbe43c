"""One network under every degradation of its operator, from the training to rows, accounts, tables and figures."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from lorun.accounting.account import account
from lorun.data.images import load_dataset
from lorun.errors import LorunError
from lorun.evaluation.protocols import get_protocol, score
from lorun.evaluation.reconstruct import evaluate, evaluate_folder, load_system, reconstruct_measurements
from lorun.profiles import load_profile
from lorun.results import figures
from lorun.results.paths import EVALUATION, account_path
from lorun.results.result_set import write_result_set
from lorun.results.store import write_evaluation
from lorun.training import train
from lorun.training.outcome import read_outcome

CPU = torch.device("cpu")
METHODS = ["block1", "lorun", "initial_reconstruction"]


@pytest.fixture(scope="module")
def shared_runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def profile(sr_project, monkeypatch):
    monkeypatch.chdir(sr_project)
    return load_profile("sr.yaml")


@pytest.fixture
def runs(profile, sr_project, shared_runs):
    """All runs of the profile, trained once; not to be changed."""
    for method in METHODS:
        experiment = profile.experiment("sr", "x2", method, 0)
        if method == "lorun":
            train(experiment.base, runs=shared_runs, data=sr_project / "data", device=CPU)
        assert train(experiment, runs=shared_runs, data=sr_project / "data", device=CPU).status == "completed"
    return shared_runs


def test_from_the_training_to_the_tables(profile, sr_project, runs, tmp_path, monkeypatch):
    for experiment in profile.experiments():
        evaluation = evaluate(experiment, runs=runs, data=sr_project / "data", device=CPU)
        write_evaluation(runs / experiment.folder / EVALUATION, *evaluation)
        account_path(runs, experiment).write_text(json.dumps(account(experiment, CPU)))
        assert len(read_outcome(runs / experiment.folder).curve) == {"block1": 4, "lorun": 2}.get(experiment.method, 0)
    summary = write_result_set(profile, runs, tmp_path, data=sr_project / "data")
    rows = pd.read_csv(tmp_path / "rows.csv", dtype={"degradation": str})
    asked = {"image": ["blobs", "checks"], "degradation": ["3", "1"], "protocol": ["usrnet_rgb", "sr_y"]}
    assert {name: rows[name].unique().tolist()[:2] for name in asked} == asked
    assert len(rows) == len(METHODS) * 2 * 2 * (2 + 2 + 1)  # images, degradations, metrics of the protocols
    assert not rows.duplicated(["method", "image", "degradation", "protocol", "metric"]).any()
    assert pd.read_csv(tmp_path / "runs.csv").data_md5.str.contains("blurs=").all()

    degradations = pd.read_csv(tmp_path / "degradations.csv", dtype={"degradation": str})
    assert len(degradations) == len(METHODS) * 2 * 5
    assert (degradations.images == 2).all()
    one = "method == 'lorun' and protocol == 'sr_y' and metric == 'ssim' and degradation == '1'"
    assert degradations.query(one)["value"].item() == pytest.approx(rows.query(one)["value"].mean(), abs=1e-6)
    means = degradations.query("metric == 'psnr'").groupby(["method", "protocol"])["value"].mean()
    for _, found in summary[summary.protocol != "measurement_residual"].iterrows():
        assert found.psnr == pytest.approx(means[found.method, found.protocol], abs=1e-6)
        assert found.images == 2

    page = (tmp_path / "details.md").read_text()
    assert page.count("under each degradation, `sr_y`:") == 2
    heading = page.split("PSNR (dB) under each degradation, `usrnet_rgb`:")[1].splitlines()[2]
    assert [cell.strip() for cell in heading.strip("|").split("|")] == ["method", "3", "1"]
    assert "mean over images and degradations, ±" in (tmp_path / "summary.md").read_text()
    assert (summary.flops > 0).all()
    assert (summary[summary.method != "initial_reconstruction"].step_total > 0).all()

    drawn = {}
    monkeypatch.setattr(figures, "save", lambda path, figure: drawn.setdefault(path.name, figure) and path)
    figures.write_figures(profile, summary, runs=runs, data=sr_project / "data", folder=tmp_path)
    assert list(drawn) == ["psnr_parameters_sr_colour_x2.png", "strip_sr_colour_x2.png"]
    panels = drawn["strip_sr_colour_x2.png"].axes
    assert [place.get_title().split("\n")[0] for place in panels] == ["truth", *METHODS]
    assert {place.images[0].get_array().shape for place in panels} == {(40, 40, 3)}  # the truth as the others


def test_every_image_is_cropped_and_scored_with_every_kernel(profile, sr_project, runs):
    experiment = profile.experiment("sr", "x2", "block1", 0)
    rows = pd.DataFrame(evaluate(experiment, runs=runs, data=sr_project / "data", device=CPU).rows)
    system = load_system(experiment, runs)
    images = load_dataset(sr_project / "data", "colour", "test", 3)
    kernels = np.load(sr_project / "data/blurs/blurs.npy")
    for (image, degradation), of in rows.groupby(["image", "degradation"]):
        truth = torch.from_numpy(images[image][:, :40, :40].copy()).float() / 255
        physics = system.physics.at(40, 40).under(degradation)
        np.testing.assert_allclose(physics.kernel.numpy(), kernels[int(degradation) - 1], rtol=1e-6)
        with torch.no_grad():
            estimate = system.network(physics(truth[None]), physics)[0]
        for protocol in ("usrnet_rgb", "sr_y"):
            found = of[of.protocol == protocol].set_index("metric").value.to_dict()
            assert found == score(get_protocol(protocol), estimate, truth, scale=2)


def test_only_the_first_condition_is_kept(profile, sr_project, runs):
    experiment = profile.experiment("sr", "x2", "initial_reconstruction", 0)
    evaluate(experiment, runs=runs, data=sr_project / "data", device=CPU)
    folder = runs / experiment.folder / "reconstructions" / "colour"
    assert [path.name for path in folder.iterdir()] == ["checks.png"]
    truth = load_dataset(sr_project / "data", "colour", "test", 3)["checks"][:, :40, :40]
    physics = experiment.physics.build().under("3").at(40, 40)
    expected = load_system(experiment, runs).network(physics(torch.from_numpy(truth.copy())[None] / 255), physics)[0]
    with Image.open(folder / "checks.png") as kept:
        pixels = np.asarray(kept).transpose(2, 0, 1)
    np.testing.assert_array_equal(pixels, (expected.clamp(0, 1) * 255).round().numpy())


def test_a_folder_of_one_s_own_is_scored_with_every_kernel(profile, runs, tmp_path):
    (tmp_path / "mine").mkdir()
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (33, 50, 3), dtype=np.uint8)).save(tmp_path / "mine" / "colour.png")
    Image.fromarray(random.integers(0, 256, (40, 32), dtype=np.uint8)).save(tmp_path / "mine" / "gray.png")
    experiment = profile.experiment("sr", "x2", "lorun", 0)
    rows = pd.DataFrame(evaluate_folder(experiment, tmp_path / "mine", runs=runs, device=CPU).rows)
    assert rows.groupby(["image", "degradation"]).size().to_dict() == {
        (image, degradation): 5 for image in ("colour", "gray") for degradation in ("1", "3")
    }
    assert rows.value.notna().all()
    Image.fromarray(random.integers(0, 256, (7, 50, 3), dtype=np.uint8)).save(tmp_path / "mine" / "flat.png")
    with pytest.raises(LorunError, match="^image flat is 7 x 50, smaller than the 8 pixels"):
        evaluate_folder(experiment, tmp_path / "mine", runs=runs, device=CPU)


def test_a_diverged_run_has_no_rows(profile, sr_project, tmp_path, runs):
    experiment = profile.experiment("sr", "x2", "block1", 0)
    outcome = json.loads((runs / experiment.folder / "training.json").read_text())
    path = tmp_path / experiment.folder / "training.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(outcome | {"status": "diverged", "message": "loss is nan"}))
    run, rows = evaluate(experiment, runs=tmp_path, data=sr_project / "data", device=CPU)
    assert (run["status"], rows) == ("diverged", [])


def test_a_run_that_is_not_there_has_a_line_and_no_rows(profile, sr_project, tmp_path):
    write_result_set(profile, tmp_path / "runs", tmp_path, partial=True, data=sr_project / "data")
    assert set(pd.read_csv(tmp_path / "runs.csv").status) == {"not_run"}
    assert pd.read_csv(tmp_path / "rows.csv").empty
    degradations = pd.read_csv(tmp_path / "degradations.csv")
    assert len(degradations) == len(METHODS) * 2 * 5
    assert degradations["value"].isna().all()


def test_measurements_of_an_operator_with_degradations_are_refused(profile, runs):
    system = load_system(profile.experiment("sr", "x2", "block1", 0), runs)
    y = {"one": np.zeros((3, 8, 8), np.float32)}
    with pytest.raises(LorunError, match=r"^measurements do not say under which degradation .* Choices: 3, 1$"):
        next(reconstruct_measurements(system, y, 3, CPU))


@pytest.mark.parametrize(
    ("scored", "message"),
    [
        ([1, 4], r"blurs\.npy: has 3 kernels, `scored` names number 4"),
        ([1, 1], "names a kernel twice"),
        ([], "`scored` numbers the kernels of"),
    ],
)
def test_kernels_that_the_file_lacks_are_refused(sr_project, monkeypatch, tmp_path, scored, message):
    monkeypatch.chdir(sr_project)
    content = yaml.safe_load((sr_project / "sr.yaml").read_text())
    content["tasks"]["sr"]["physics"]["scored"] = scored
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(LorunError, match=message):
        load_profile(tmp_path / "other.yaml").experiment("sr", "x2", "block1", 0).physics.build()


def test_an_account_of_images_that_are_cropped_is_refused(profile):
    experiment = profile.experiment("sr", "x2", "initial_reconstruction", 0)
    size = experiment.accounting.model_copy(update={"image": 36})
    with pytest.raises(LorunError, match="images of 36 pixels are cropped to 32 .* change `accounting.image`"):
        account(experiment.model_copy(update={"accounting": size}), CPU)
