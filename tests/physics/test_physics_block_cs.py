import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from lorun.errors import LorunError
from lorun.physics.block_cs import BinaryBlockCS, BlockCS, BlockCSConfig, gaussian_matrix, measurement_count

F64 = torch.float64


def physics(**settings):
    return BlockCSConfig(**{"ratio": 25, "block": 8, "initial": "adjoint", **settings}).build(F64)


def images(*shape):
    return torch.rand(shape, dtype=F64, generator=torch.Generator().manual_seed(0))


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    batch=st.integers(1, 2),
    channels=st.sampled_from([1, 3]),
    block=st.sampled_from([8, 32, 33]),
    padding=st.sampled_from(["needed", "always"]),
    ratio=st.sampled_from([4, 25, 50]),
)
def test_adjoint_for_any_size(height, width, batch, channels, block, padding, ratio):
    operator = physics(block=block, padding=padding, ratio=ratio).at(height, width)
    x = images(batch, channels, height, width)
    y = operator.A(x)
    v = torch.randn(y.shape, dtype=F64, generator=torch.Generator().manual_seed(1))
    back = operator.A_adjoint(v)
    assert back.shape == x.shape
    assert abs((y * v).sum() - (x * back).sum()) < 1e-10


@pytest.mark.parametrize("block", [32, 33])
@pytest.mark.parametrize("ratio", [1, 4, 10, 25, 30, 40, 50])
def test_rows_of_phi_are_orthonormal(block, ratio):
    phi = physics(block=block, ratio=ratio).phi
    assert (phi @ phi.mT - torch.eye(len(phi), dtype=F64)).abs().max() < 1e-12


def test_phi_is_gaussian_like_and_follows_its_seed():
    phi = gaussian_matrix(256, 1024, 0)
    assert torch.equal(phi, gaussian_matrix(256, 1024, 0))
    assert not torch.equal(phi, gaussian_matrix(256, 1024, 1))
    assert abs(phi.std().item() * 32 - 1) < 0.01  # each row has norm 1 over 1024 entries
    assert abs(phi.mean().item()) < 1e-3


@pytest.mark.parametrize(
    ("block", "rule", "expected"),
    [
        (33, "ista_net", {1: 10, 4: 43, 10: 109, 25: 272, 30: 327, 40: 436, 50: 545}),
        (32, "floor", {1: 10, 4: 40, 10: 102, 25: 256, 50: 512}),
        (32, "ceil", {1: 11, 4: 41, 10: 103, 25: 256, 50: 512}),
    ],
)
def test_measurement_counts_of_the_field(block, rule, expected):
    assert {ratio: measurement_count(ratio, block**2, rule) for ratio in expected} == expected


@pytest.mark.parametrize("ratio", [0, 0.01, 101])
def test_no_measurement_or_too_many_is_an_error(ratio):
    with pytest.raises(LorunError, match=rf"ratio {ratio:g} %"):
        measurement_count(ratio, 1024)


def test_equals_a_loop_over_blocks():
    operator = physics()
    x = images(2, 3, 16, 24)
    y = operator.A(x)
    m = operator.m
    assert y.shape == (2, 3 * m, 2, 3)
    for b in range(2):
        for c in range(3):
            for i in range(2):
                for j in range(3):
                    block = x[b, c, 8 * i : 8 * i + 8, 8 * j : 8 * j + 8].reshape(-1)
                    torch.testing.assert_close(y[b, c * m : (c + 1) * m, i, j], operator.phi @ block)


def test_padding_needed_and_always():
    for (height, width), needed, always in [((16, 24), (2, 3), (3, 4)), ((17, 24), (3, 3), (3, 4))]:
        x = images(1, 1, height, width)
        assert physics().at(height, width).A(x).shape[2:] == needed
        assert physics(padding="always").at(height, width).A(x).shape[2:] == always
    padded = torch.zeros(1, 1, 24, 24, dtype=F64)
    padded[..., :17, :20] = images(1, 1, 17, 20)
    torch.testing.assert_close(physics().A(padded), physics().at(17, 20).A(images(1, 1, 17, 20)))


def test_binding_is_checked_and_shares_phi():
    operator = physics(matrix="learned")
    bound = operator.at(16, 16)
    assert bound.phi is operator.phi
    with pytest.raises(LorunError, match=r"bound to \(16, 16\) images, this one is \(8, 16\)"):
        bound.A(images(1, 1, 8, 16))
    with pytest.raises(LorunError, match="needs the image size"):
        physics(padding="always").A(images(1, 1, 8, 8))


def test_unbound_takes_any_size_and_returns_whole_blocks():
    assert physics().A_adjoint(physics().A(images(1, 1, 9, 17))).shape == (1, 1, 16, 24)


@pytest.mark.parametrize("matrix", ["gaussian", "learned"])
def test_initial_estimate_is_the_least_squares_map_of_the_training_blocks(matrix):
    operator = physics(initial="lmmse", matrix=matrix)
    blocks = images(500, 64)
    operator.fit(lambda side, count: [blocks[:200], blocks[200:]])
    y = blocks @ operator.phi.mT
    expected = blocks.mT @ y @ torch.linalg.inv(y.mT @ y)  # Q_init = X Y^T (Y Y^T)^-1 with samples in columns
    image = images(1, 1, 8, 8)
    measured = operator.A(image)
    estimate = operator.initial_reconstruction(measured)
    torch.testing.assert_close(estimate.reshape(-1), expected @ measured.reshape(-1), rtol=1e-4, atol=1e-5)


def test_lmmse_beats_the_adjoint_and_needs_blocks():
    smooth = images(400, 1) * torch.linspace(0.5, 1, 64, dtype=F64)
    errors = {}
    for initial in ("lmmse", "adjoint", "pseudo_inverse"):
        operator = physics(initial=initial)
        operator.fit(lambda side, count: [smooth])
        x = smooth[:1].reshape(1, 1, 8, 8)
        errors[initial] = (operator.initial_reconstruction(operator.A(x)) - x).square().mean().item()
    assert errors["lmmse"] < 0.01 * errors["adjoint"]
    assert errors["pseudo_inverse"] == pytest.approx(errors["adjoint"])  # the same, for orthonormal rows
    with pytest.raises(LorunError, match="no training blocks"):
        physics(initial="lmmse").fit(lambda side, count: [])


def test_learned_phi_gets_gradients_through_operator_and_initial_estimate():
    operator = physics(initial="lmmse", matrix="learned")
    operator.fit(lambda side, count: [images(100, 64)])
    assert [name for name, _ in operator.named_parameters()] == ["phi"]
    operator.initial_reconstruction(operator.A(images(1, 1, 16, 16))).square().sum().backward()
    assert operator.phi.grad.abs().sum() > 0
    assert not list(physics().parameters())


def test_pseudo_inverse_of_a_matrix_that_is_not_orthonormal():
    matrix = torch.randn(10, 64, dtype=F64, generator=torch.Generator().manual_seed(0))
    operator = BlockCS(matrix, initial="pseudo_inverse", dtype=F64)
    y = operator.A(images(1, 1, 16, 16))
    torch.testing.assert_close(operator.A(operator.A_dagger(y)), y)
    torch.testing.assert_close(operator.A_dagger(y), operator.initial_reconstruction(y))
    blocks = torch.linalg.pinv(matrix) @ y[0, :, 0, 0]
    torch.testing.assert_close(operator.A_dagger(y)[0, 0, :8, :8].reshape(-1), blocks)


def test_pseudo_inverse_of_cropped_blocks_still_fits_the_measurements():
    operator = physics().at(12, 12)
    y = operator.A(images(1, 1, 12, 12))
    misfit = (operator.A(operator.A_dagger(y, max_iter=500, tol=1e-10)) - y).norm() / y.norm()
    assert misfit < 1e-3  # deepinv's iterative solver; A A^T is ill-conditioned where a block is cropped


@pytest.mark.parametrize("suffix", [".npy", ".mat"])
def test_phi_from_a_file(tmp_path, suffix):
    matrix = np.random.default_rng(0).standard_normal((16, 64))
    path = tmp_path / f"phi{suffix}"
    np.save(path, matrix) if suffix == ".npy" else savemat(path, {"phi": matrix})
    operator = physics(matrix="file", matrix_file=path)
    assert np.array_equal(operator.phi.numpy(), matrix)


def test_phi_files_that_do_not_fit_are_refused(tmp_path):
    wrong, other, text = tmp_path / "wrong.npy", tmp_path / "other.mat", tmp_path / "text.npy"
    np.save(wrong, np.zeros((15, 64)))
    savemat(other, {"psi": np.zeros((16, 64))})
    text.write_text("no matrix")
    pickled = tmp_path / "pickled.npy"
    np.save(pickled, np.array([{"a": 1}], dtype=object))
    for path, message in [
        (wrong, r"shape \(15, 64\), the setting needs \(16, 64\)"),
        (other, "no variable `phi`, but `psi`"),
        (text, "is no .npy file, but something else"),
        (pickled, "holds Python objects"),
        (tmp_path / "absent.npy", "absent.npy: No such file"),
    ]:
        with pytest.raises(LorunError, match=message):
            physics(matrix="file", matrix_file=path)


def test_a_matrix_of_impossible_shape_is_refused():
    for shape in [(3, 60), (65, 64)]:
        with pytest.raises(LorunError, match=f"shape {shape[0]} x {shape[1]}"):
            BlockCS(torch.zeros(shape))


def test_a_given_initial_estimate_is_that_of_its_file(tmp_path):
    phi, qinit = gaussian_matrix(16, 64, 5), torch.randn(64, 16, dtype=F64)
    np.save(tmp_path / "phi.npy", phi.numpy())
    savemat(tmp_path / "qinit.mat", {"Qinit": qinit.numpy()})
    files = {"matrix_file": tmp_path / "phi.npy", "initial_file": tmp_path / "qinit.mat"}
    operator = physics(matrix="file", initial="given", **files)
    y = images(1, 16, 1, 1)
    assert torch.equal(operator.initial_reconstruction(y).reshape(64), (qinit @ y.reshape(16, 1)).reshape(64))
    with pytest.raises(LorunError, match=r"`Qinit` has shape \(64, 16\), the setting needs \(64, 6\)"):
        physics(ratio=10, initial="given", initial_file=tmp_path / "qinit.mat")


def test_an_initialiser_goes_with_the_given_estimate_alone():
    phi = gaussian_matrix(16, 64, 0)
    for settings_ in ({"initial": "given"}, {"initial": "adjoint", "initialiser": torch.zeros(64, 16)}):
        with pytest.raises(LorunError, match="`initial: given` and an initialiser belong together"):
            BlockCS(phi, **settings_)
    with pytest.raises(LorunError, match=r"the initialiser has shape \(16, 64\), Phi needs \(64, 16\)"):
        BlockCS(phi, initial="given", initialiser=torch.zeros(16, 64))


def test_whole_blocks_keep_what_the_image_was_padded_with():
    bound = physics(padding="always").at(13, 16)
    whole = bound.whole_blocks()
    y = bound.A(images(1, 1, 13, 16))
    assert y.shape[2:] == (2, 3)  # a whole block more to the right
    assert whole.A_adjoint(y).shape == (1, 1, 16, 24)
    assert torch.equal(whole.A_adjoint(y)[..., :13, :16], bound.A_adjoint(y))
    assert torch.allclose(whole.A(whole.A_adjoint(y)), y)  # nothing was cut off: Phi Phi^T = I
    assert bound.size == (13, 16)


def test_a_learned_binary_phi_is_a_scale_times_signs():
    operator = physics(matrix="learned_binary")
    assert isinstance(operator, BinaryBlockCS)
    with torch.no_grad():
        operator.latent[0, :3] = torch.tensor([0.0, -1e-9, 1e-9])
        operator.scale.fill_(0.25)
    assert operator.phi[0, :3].tolist() == [0.25, -0.25, 0.25]
    assert set(operator.phi.abs().unique().tolist()) == {0.25}
    assert {name for name, _ in operator.named_parameters()} == {"latent", "scale"}


def test_gradients_pass_the_signs_unchanged():
    operator = physics(matrix="learned_binary")
    x = images(1, 1, 8, 8)
    operator.A(x).sum().backward()
    scale = operator.scale.item()
    torch.testing.assert_close(operator.latent.grad, scale * x.reshape(1, 64).expand(16, 64))
    torch.testing.assert_close(operator.scale.grad, operator.latent.sign().sum(0) @ x.reshape(64)[:, None])


@pytest.mark.parametrize(
    ("size", "gamma", "tolerance"),
    [((16, 8), 0.05, 1e-9), ((16, 8), 1e4, 1e-9), ((13, 10), 2.0, 1e-3)],  # the last by deepinv's conjugate gradients
)
def test_the_proximal_step_is_the_solution_of_its_normal_equations(size, gamma, tolerance):
    """For a Phi whose rows are not orthonormal."""
    phi = torch.randn(16, 64, dtype=F64, generator=torch.Generator().manual_seed(3)) / 8
    operator = BlockCS(phi, initial="adjoint", dtype=F64).at(*size)
    n = size[0] * size[1]
    a = operator.A(torch.eye(n, dtype=F64).reshape(n, 1, *size)).flatten(1).T  # (m, n)
    z, truth = images(2, 1, *size)[:, :, None]
    y = operator.A(truth)
    exact = torch.linalg.solve(torch.eye(n) + gamma * a.T @ a, z.flatten() + gamma * a.T @ y.flatten())
    torch.testing.assert_close(operator.prox_l2(z, y, gamma).flatten(), exact, rtol=0, atol=tolerance)


def test_each_image_and_channel_has_the_proximal_step_that_it_has_alone():
    operator = physics().at(16, 8)
    z, y = images(2, 3, 16, 8), operator.A(images(2, 3, 16, 8).flip(0))
    gammas = torch.tensor([0.05, 40.0], dtype=F64)
    found = operator.prox_l2(z, y, gammas.view(2, 1, 1, 1))
    for one, gamma in enumerate(gammas):
        for channel in range(3):
            alone = operator.prox_l2(
                z[one : one + 1, channel : channel + 1], y[one : one + 1].unflatten(1, (3, -1))[:, channel], gamma
            )
            torch.testing.assert_close(found[one : one + 1, channel : channel + 1], alone)
