"""Cubes, and measurements without a truth, from the trained network to rows, kept files and figures."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.io import loadmat, savemat

from lorun.data.checksums import write_manifest
from lorun.data.cubes import WAVELENGTHS
from lorun.data.measurements import load_measurements
from lorun.errors import LorunError
from lorun.evaluation.protocols import get_protocol, score
from lorun.evaluation.reconstruct import evaluate, load_system, reconstruct_measurements
from lorun.evaluation.rendering import to_pixels
from lorun.results.figures import write_figures
from lorun.results.paths import EVALUATION
from lorun.results.result_set import write_result_set
from lorun.results.store import write_evaluation
from lorun.training import train

CPU = torch.device("cpu")
ON_CAPTURES = {"data": {"test": ["captures"]}, "evaluation": {"protocols": ["measurement_residual"]}}


@pytest.fixture(scope="module")
def shared_runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def run(spectral_data, shared_runs, tmp_path):
    """Train a method of a profile, once in all; return its experiment and a copy of the runs."""

    def run(profile, method="block1"):
        experiment = profile.experiment("cassi", "snapshot", method, 0)
        assert train(experiment, runs=shared_runs, data=spectral_data, device=CPU).status == "completed"
        shutil.copytree(shared_runs, tmp_path / "runs", dirs_exist_ok=True)
        return experiment, tmp_path / "runs"

    return run


def kept(runs, experiment, dataset, name):
    return runs / experiment.folder / "reconstructions" / dataset / name


def spectra(path):
    table = pd.read_csv(path)
    assert list(table.columns) == ["row", "column", "wavelength", "estimate", "truth"]
    assert list(zip(table.row, table.column, strict=True)) == [(3, 4)] * 28 + [(19, 21)] * 28
    assert table.wavelength.tolist() == [*WAVELENGTHS] * 2
    return table


def test_a_cube_is_scored_by_every_protocol_of_its_profile(spectral_profile, spectral_data, run):
    experiment, runs = run(spectral_profile())
    rows = pd.DataFrame(evaluate(experiment, runs=runs, data=spectral_data, device=CPU).rows)
    assert set(rows.image) == {"blobs", "checks"}
    asked = [(name, metric) for name in experiment.evaluation.protocols for metric in get_protocol(name).metrics]
    assert [metric for _, metric in asked] == ["psnr", "ssim", "sam", "psnr", "residual"]
    for image, scores in rows.groupby("image"):
        assert list(zip(scores.protocol, scores.metric, strict=True)) == asked
        truth = torch.from_numpy(np.load(spectral_data / f"cubes/test/cube/{image}.npy"))
        system = load_system(experiment, runs)
        with torch.no_grad():
            estimate = system(truth[None], system.physics.at(20, 22))[0]
        expected = [score(get_protocol(name), estimate, truth) for name in experiment.evaluation.protocols[:2]]
        assert scores.value.tolist()[:4] == [value for one in expected for value in one.values()]
        y, explained = (system.physics.A(x[None].double()) for x in (truth, estimate.clamp(0, 1)))
        assert scores.value.tolist()[4] == pytest.approx(((explained - y).norm() / y.norm()).item(), abs=1e-6)


def test_a_capture_is_reconstructed_from_what_was_measured(spectral_profile, spectral_data, run):
    """The linear estimate of least norm explains what was measured, but for clipping."""
    experiment, runs = run(spectral_profile(**ON_CAPTURES), "initial_reconstruction")
    rows = pd.DataFrame(evaluate(experiment, runs=runs, data=spectral_data, device=CPU).rows)
    assert rows.image.tolist() == ["blobs", "checks"]
    assert set(rows.dataset) == {"captures"}
    assert set(rows.metric) == {"residual"}
    physics = load_system(experiment, runs).physics.double()
    for image, value in zip(rows.image, rows.value, strict=True):
        raw = torch.from_numpy(loadmat(spectral_data / f"captures/{image}.mat")["meas_real"])
        y = (raw / raw.max() * 0.8)[None, None]
        explained = physics.A(physics.at(20, 22).A_dagger(y).clamp(0, 1))
        assert value == pytest.approx(((explained - y).norm() / y.norm()).item(), abs=1e-6)
        assert value < 0.05


def test_a_protocol_with_a_truth_is_refused_where_there_is_none(spectral_profile, spectral_data, run):
    profile = spectral_profile(data={"test": ["cubes", "captures"]})
    experiment, runs = run(profile)
    message = (
        r"^cassi: the protocol 'cassi_mst_uint8' needs a ground truth, and 'captures' holds only measurements\. "
        "Choices: measurement_residual$"
    )
    with pytest.raises(LorunError, match=message):
        evaluate(experiment, runs=runs, data=spectral_data, device=CPU)
    assert not (runs / experiment.folder / "reconstructions").exists()


def test_a_diverged_training_has_no_rows(spectral_profile, spectral_data, run):
    experiment, runs = run(spectral_profile(**ON_CAPTURES))
    path = runs / experiment.folder / "training.json"
    outcome = json.loads(path.read_text()) | {"status": "diverged", "message": "loss is nan"}
    path.write_text(json.dumps(outcome))
    run_line, rows = evaluate(experiment, runs=runs, data=spectral_data, device=CPU)
    assert (run_line["status"], run_line["message"], rows) == ("diverged", "loss is nan", [])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((20, 40), "the scene of measurement checks is 20 x -14, smaller than the 1 pixels"),
        ((25, 76), "the scene of measurement checks: a scene of 25 x 22 is larger than the mask of 24 x 24"),
    ],
)
def test_a_capture_that_does_not_fit_the_operator_is_refused(
    spectral_profile, spectral_data, run, tmp_path, shape, message
):
    data = shutil.copytree(spectral_data, tmp_path / "data")
    savemat(data / "captures" / "checks.mat", {"meas_real": np.ones(shape)})
    (data / "captures" / "blobs.mat").unlink()
    write_manifest(data, "captures")
    experiment, runs = run(spectral_profile(**ON_CAPTURES))
    with pytest.raises(LorunError, match=message):
        evaluate(experiment, runs=runs, data=data, device=CPU)


def test_a_measurement_of_another_shape_than_the_operator_gives_is_refused(spectral_profile, run):
    experiment, runs = run(spectral_profile(), "initial_reconstruction")
    two_detectors = {"checks": np.ones((2, 20, 76), np.float32)}
    message = (
        r"measurement checks has shape \(2, 20, 76\), but the operator gives \(1, 20, 76\) for images of 28 channels"
    )
    with pytest.raises(LorunError, match=message):
        next(reconstruct_measurements(load_system(experiment, runs), two_detectors, 28, CPU))


def test_kept_cubes_are_pictures_and_spectra(spectral_profile, spectral_data, run):
    experiment, runs = run(spectral_profile())
    evaluate(experiment, runs=runs, data=spectral_data, device=CPU)
    truth = torch.from_numpy(np.load(spectral_data / "cubes/test/cube/checks.npy"))
    system = load_system(experiment, runs)
    with torch.no_grad():
        estimate = system(truth[None], system.physics.at(20, 22))[0]
    with Image.open(kept(runs, experiment, "cubes", "checks.png")) as image:
        assert np.array_equal(np.moveaxis(np.asarray(image), -1, 0), to_pixels(estimate.numpy()))
    table = spectra(kept(runs, experiment, "cubes", "checks.spectra.csv"))
    for column, cube in (("estimate", estimate), ("truth", truth)):
        expected = [*cube[:, 3, 4].tolist(), *cube[:, 19, 21].tolist()]
        assert table[column].tolist() == pytest.approx(expected, abs=1e-6)
    assert {path.name for path in kept(runs, experiment, "cubes", "").iterdir()} == {"checks.png", "checks.spectra.csv"}


def test_kept_captures_have_no_true_spectra(spectral_profile, spectral_data, run):
    experiment, runs = run(spectral_profile(**ON_CAPTURES))
    evaluate(experiment, runs=runs, data=spectral_data, device=CPU)
    table = spectra(kept(runs, experiment, "captures", "checks.spectra.csv"))
    assert table.truth.isna().all()
    (one,) = (
        one
        for one in reconstruct_measurements(
            load_system(experiment, runs), load_measurements(spectral_data, "captures", "test"), 28, CPU
        )
        if one.name == "checks"
    )
    assert one.truth is None
    assert table.estimate[:28].tolist() == pytest.approx(one.estimate[:, 3, 4].tolist(), abs=1e-6)
    with Image.open(kept(runs, experiment, "captures", "checks.png")) as image:
        assert (image.mode, image.size) == ("RGB", (22, 20))


def test_without_points_no_spectra_are_kept(spectral_profile, spectral_data, run):
    experiment, runs = run(spectral_profile(evaluation={"points": []}))
    evaluate(experiment, runs=runs, data=spectral_data, device=CPU)
    assert [path.name for path in kept(runs, experiment, "cubes", "").iterdir()] == ["checks.png"]


@pytest.mark.parametrize("point", [[20, 0], [0, 22]])
def test_a_point_outside_is_named(spectral_profile, spectral_data, run, point):
    experiment, runs = run(spectral_profile(evaluation={"points": [[0, 0], point]}))
    with pytest.raises(LorunError, match=rf"\[{point[0]}, {point[1]}\] is outside of cubes/checks, 20 x 22 pixels"):
        evaluate(experiment, runs=runs, data=spectral_data, device=CPU)
    assert not kept(runs, experiment, "cubes", "checks.spectra.csv").exists()


def drawn(profile, run, data, folder):
    """A result set and its figures: the summary and the figures by name."""
    for method in ("block1", "initial_reconstruction"):
        experiment, runs = run(profile, method)
        write_evaluation(runs / experiment.folder / EVALUATION, *evaluate(experiment, runs=runs, data=data, device=CPU))
    summary = write_result_set(profile, runs, folder, partial=True, data=data)  # without accounts
    paths = write_figures(profile, summary, runs=runs, data=data, folder=folder)
    return summary, {path.name: path for path in paths}, runs


def size(path):
    with Image.open(path) as image:
        image.load()
        return image.size


def test_tables_and_figures_cube_figures(spectral_profile, spectral_data, run, tmp_path):
    profile = spectral_profile()
    summary, figures, runs = drawn(profile, run, spectral_data, tmp_path / "out")
    assert list(figures) == [f"{name}_cassi_cubes_snapshot.png" for name in ("psnr_parameters", "strip", "spectra")]
    first = summary[summary.protocol == "cassi_mst_uint8"]
    assert first[["psnr", "ssim", "sam"]].notna().all(axis=None)
    assert summary[summary.protocol == "cassi_torch_psnr"][["ssim", "sam", "residual"]].isna().all(axis=None)
    assert summary.m.isna().all()
    page = (tmp_path / "out/summary.md").read_text()
    assert "28 bands, dispersion 2 pixels, random mask, no noise, 2 test images" in page
    assert "PSNR (dB)" in page
    assert "SAM (degrees)" in page
    assert "per block" not in page
    again = write_figures(profile, summary, runs=runs, data=spectral_data, folder=tmp_path / "again")
    for path in again:
        assert path.read_bytes() == figures[path.name].read_bytes()


def test_tables_and_figures_of_captures(spectral_profile, spectral_data, run, tmp_path):
    cube_figures = drawn(spectral_profile(), run, spectral_data, tmp_path / "cubes")[1]
    summary, figures, _ = drawn(spectral_profile(**ON_CAPTURES), run, spectral_data, tmp_path / "out")
    names = [f"{name}_cassi_captures_snapshot.png" for name in ("residual_parameters", "strip", "spectra")]
    assert list(figures) == names
    assert summary.residual.notna().all()
    assert not {"psnr", "ssim", "sam"} & set(summary.columns[summary.notna().any()])
    page = (tmp_path / "out/summary.md").read_text()
    assert "residual (ratio)" in page
    assert "PSNR" not in page
    # a panel less: there is no truth to show
    assert size(figures[names[1]])[0] * 3 == size(cube_figures["strip_cassi_cubes_snapshot.png"])[0] * 2
    assert figures[names[2]].read_bytes() != cube_figures["spectra_cassi_cubes_snapshot.png"].read_bytes()


def test_captures_have_no_strip_before_anything_has_run(spectral_profile, spectral_data, tmp_path):
    profile = spectral_profile(**ON_CAPTURES)
    summary = write_result_set(profile, tmp_path / "none", tmp_path / "out", partial=True, data=spectral_data)
    paths = write_figures(profile, summary, runs=tmp_path / "none", data=spectral_data, folder=tmp_path / "out")
    assert [path.name for path in paths] == ["residual_parameters_cassi_captures_snapshot.png"]
    rows = json.loads((tmp_path / "out/summary.json").read_text())["cassi"]["captures"]["snapshot"]
    assert list(rows) == ["measurement_residual"]
