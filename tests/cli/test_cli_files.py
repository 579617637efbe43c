"""`lorun score`: a baseline with your own weights, sampling matrix and images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from lorun import plugins
from lorun.evaluation.protocols import get_protocol, score
from lorun.physics.block_cs import BinaryBlockCS, BlockCS, gaussian_matrix
from lorun.results.store import read_evaluation
from lorun.system import System

M, BLOCK = 12, 8


@pytest.fixture
def folder(tmp_path):
    """Images of several kinds and sizes in a new folder."""
    random = np.random.default_rng(0)
    (tmp_path / "mine").mkdir()
    for name, size in (("one.png", (17, 24)), ("two.bmp", (16, 16))):
        Image.fromarray(random.integers(0, 255, size, dtype=np.uint8)).save(tmp_path / "mine" / name)
    Image.fromarray(random.integers(0, 255, (20, 19, 3), dtype=np.uint8)).save(tmp_path / "mine/colour.tif")
    return tmp_path / "mine"


def fixed(tmp_path):
    """A system with a fixed Phi, and the options that give its files."""
    torch.manual_seed(0)
    phi, qinit = gaussian_matrix(M, BLOCK**2, 3), torch.randn(BLOCK**2, M, dtype=torch.float64) / 10
    physics = BlockCS(phi, padding="always", initial="given", initialiser=qinit)
    system = System(plugins.build("ista_net", physics, 1), physics)
    torch.save({k: v for k, v in system.state_dict().items() if k.startswith("network")}, tmp_path / "weights.pth")
    savemat(tmp_path / "phi.mat", {"phi": phi.numpy()})
    np.save(tmp_path / "qinit.npy", qinit.numpy())
    return system, ["--weights", "weights.pth", "--matrix", "phi.mat", "--initial", "qinit.npy"]


def expected(system, path):
    """PSNR of an image file, by hand."""
    from lorun.data.images import read_image

    x = torch.from_numpy(read_image(path, 1)).float() / 255
    with torch.no_grad():
        estimate = system(x[None], system.physics.at(*x.shape[1:]))[0]
    return score(get_protocol("cs_float_y"), estimate, x)["psnr"]


def test_weights_matrix_and_folder_of_ones_own(lorun, folder, tmp_path):
    system, options = fixed(tmp_path)
    status, out, err = lorun("score", "--method", "ista_net", *options, "--images", "mine")
    assert (status, err) == (0, "")
    assert out.startswith("cs/18.75%/ista_net seed 0: mine: cs_float_y psnr ")
    assert out.endswith(": mine.csv\n")
    run, rows = read_evaluation(Path("mine.csv"))
    assert set(rows.image) == {"one", "two", "colour"}
    assert run["checkpoint_policy"] == "released"
    for file in ("one.png", "two.bmp", "colour.tif"):
        (found,) = rows[(rows.image == Path(file).stem) & (rows.metric == "psnr")]["value"]
        assert found == pytest.approx(expected(system, folder / file), abs=1e-4)
    for name in ("phi.mat=", "qinit.npy=", "weights.pth="):
        assert name in run["data_md5"]


def test_weights_that_hold_their_matrix(lorun, folder, tmp_path):
    torch.manual_seed(0)
    physics = BinaryBlockCS(gaussian_matrix(M, BLOCK**2, 3), learned=True, padding="always", initial="adjoint")
    system = System(plugins.build("opine_net_plus", physics, 1), physics)
    torch.save(system.state_dict(), tmp_path / "opine.pkl")
    status, _, err = lorun("score", "--method", "opine_net_plus", "--weights", "opine.pkl", "--images", "mine")
    assert (status, err) == (0, "")
    _, rows = read_evaluation(Path("mine.csv"))
    (found,) = rows[(rows.image == "one") & (rows.metric == "psnr")]["value"]
    assert found == pytest.approx(expected(system, folder / "one.png"), abs=1e-4)


def test_protocols_padding_and_out_are_heeded(lorun, folder, tmp_path):
    _, options = fixed(tmp_path)
    command = ["score", "--method", "ista_net", *options, "--images", "mine", "--out", "scores/a.csv"]
    assert lorun(*command, "--protocol", "cs_round_y", "--protocol", "cs_truncate_y", "--padding", "needed")[0] == 0
    assert set(read_evaluation(Path("scores/a.csv"))[1].protocol) == {"cs_round_y", "cs_truncate_y"}


def test_a_baseline_without_parameters_needs_no_weights(lorun, folder, tmp_path):
    fixed(tmp_path)
    words = ["score", "--method", "linear_mmse", "--matrix", "phi.mat", "--initial", "pseudo_inverse"]
    status, _, err = lorun(*words, "--images", "mine")
    assert (status, err) == (0, "")
    assert len(read_evaluation(Path("mine.csv"))[1]) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--method": "ista_nett"}, "unknown baseline 'ista_nett'. Did you mean 'ista_net'?"),
        ({"--method": "ista_net_plus"}, "weights.pth: key `network.unrolled.0.forward_transform.0.weight` has shape"),
        ({"--method": "opine_net_plus"}, "opine_net_plus expects"),
        ({"--weights": None}, "ista_net has parameters: name a file of its weights with --weights"),
        ({"--weights": "phi.mat"}, "phi.mat: refused: it holds objects that are not data"),
        ({"--weights": "absent.pkl"}, "absent.pkl: no such weights file"),
        ({"--matrix": None}, "weights.pth: no sampling matrix in the weights: name it with --matrix"),
        ({"--weights": "opine.pkl"}, "opine.pkl: key `module.Phi` has no place in ista_net: weights of another"),
        (
            {"--weights": "opine.pkl", "--matrix": None},
            "opine.pkl: key `module.Phi` has no place in ista_net: weights of another network?",
        ),
        (
            {"--method": "opine_net_plus", "--matrix": None},
            "weights.pth: has nothing for `physics.latent` of opine_net_plus: weights of another network?",
        ),
        (
            {"--method": "opine_net_plus", "--weights": "opine.pkl"},
            "opine.pkl: these weights of opine_net_plus hold their sampling matrix: leave out --matrix",
        ),
        ({"--matrix": "qinit.npy"}, "qinit.npy: Phi is 64 x 12; its columns must be the pixels of a square block"),
        ({"--matrix": "absent.mat"}, "cannot read absent.mat: No such file"),
        ({"--initial": None}, "name the initial estimate with --initial: a file (Qinit), or adjoint, pseudo_inverse"),
        ({"--initial": "ajoint"}, "no file ajoint for --initial: name a file (Qinit), or adjoint, pseudo_inverse"),
        ({"--initial": "phi.mat"}, "phi.mat: holds no variable `Qinit`, but `phi`"),
        ({"--padding": "sometimes"}, "unknown padding 'sometimes'. Choices: always, needed"),
        ({"--protocol": "cs_float"}, "unknown protocol 'cs_float'. Did you mean 'cs_float_y'?"),
        ({"--images": "yours"}, "no folder yours"),
    ],
)
def test_what_does_not_fit_is_one_line_and_writes_nothing(lorun, folder, tmp_path, change, message):
    _, (_, weights, _, matrix, _, initial) = fixed(tmp_path)
    torch.save({"module.Phi": torch.zeros(M, BLOCK**2)}, tmp_path / "opine.pkl")
    options = {
        "--method": "ista_net",
        "--weights": weights,
        "--matrix": matrix,
        "--initial": initial,
        "--images": "mine",
    }
    options |= change
    status, _, err = lorun("score", *(word for pair in options.items() if pair[1] is not None for word in pair))
    assert status == 1
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("*.csv"))


@pytest.mark.parametrize("missing", ["--method", "--images"])
def test_method_and_images_are_required(lorun, missing):
    options = {"--method": "ista_net", "--images": "mine"}
    words = [word for name, value in options.items() if name != missing for word in (name, value)]
    status, _, err = lorun("score", *words)
    assert status == 2
    assert f"Missing option '{missing}'" in err
