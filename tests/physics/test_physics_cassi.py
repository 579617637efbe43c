"""The CASSI operator against its definition, and what its settings mean."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from lorun.errors import LorunError
from lorun.physics.cassi import CASSI, CASSIConfig, random_mask


def scene(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def operator(height=12, width=15, bands=6, **options):
    return CASSI(scene(height, width, seed=9), bands=bands, dtype=torch.float64, **options)


def by_the_definition(x, mask, step, gain=1.0):
    """Pixel by pixel, band by band."""
    batch, bands, height, width = x.shape
    y = torch.zeros(batch, 1, height, width + step * (bands - 1), dtype=x.dtype)
    for n in range(batch):
        for b in range(bands):
            for h in range(height):
                for w in range(width):
                    y[n, 0, h, w + step * b] += gain * mask[h, w] * x[n, b, h, w]
    return y


@settings(max_examples=25, deadline=None)
@given(
    bands=st.integers(2, 7),
    step=st.integers(1, 4),
    height=st.integers(1, 6),
    width=st.integers(1, 9),
    scaling=st.sampled_from(["none", "mst"]),
)
def test_equals_the_double_loop_and_has_its_adjoint(bands, step, height, width, scaling):
    mask = scene(8, 10, seed=1)
    physics = CASSI(mask, bands=bands, step=step, scaling=scaling, dtype=torch.float64).at(height, width)
    x = scene(2, bands, height, width)
    y = physics.A(x)
    gain = 2 / bands if scaling == "mst" else 1.0
    torch.testing.assert_close(y, by_the_definition(x, mask, step, gain), rtol=0, atol=1e-12)
    v = scene(*y.shape, seed=2)
    assert abs(float((y * v).sum() - (x * physics.A_adjoint(v)).sum())) < 1e-10


def test_the_field_s_sizes():
    physics = CASSI(random_mask(256, 256, 0))
    assert physics.A(torch.rand(1, 28, 256, 256)).shape == (1, 1, 256, 310)
    assert physics.scene_of(256, 310) == (256, 256)


def test_row_norms_are_the_diagonal_of_the_gram_matrix_which_has_nothing_else():
    physics = operator(3, 4, bands=3, scaling="mst")
    n = 3 * 3 * 4
    columns = physics.A(torch.eye(n, dtype=torch.float64).reshape(n, 3, 3, 4)).flatten(1)  # (n, m)
    gram = columns.T @ columns
    torch.testing.assert_close(gram.diagonal(), physics.row_norms(3, 4).flatten())
    torch.testing.assert_close(gram, torch.diag(gram.diagonal()))


@pytest.mark.parametrize("gamma", [0.01, 3.0, torch.tensor(0.7, dtype=torch.float64)])
def test_the_proximal_step_is_the_solution_of_its_normal_equations(gamma):
    physics = operator(3, 4, bands=3, scaling="mst")
    n = 3 * 3 * 4
    a = physics.A(torch.eye(n, dtype=torch.float64).reshape(n, 3, 3, 4)).flatten(1).T  # (m, n)
    z, y = scene(1, 3, 3, 4), scene(1, 1, 3, 8, seed=5)
    exact = torch.linalg.solve(torch.eye(n) + gamma * a.T @ a, z.flatten() + gamma * a.T @ y.flatten())
    torch.testing.assert_close(physics.prox_l2(z, y, gamma).flatten(), exact)


def test_where_no_light_falls_nothing_is_divided_by_zero():
    mask = torch.zeros(4, 5, dtype=torch.float64)
    mask[1, 2] = 0.5
    physics = CASSI(mask, bands=3, dtype=torch.float64)
    norms = physics.row_norms(4, 5)
    assert norms[0, 0, 0, 0] == 1
    assert norms[0, 0, 1, 2] == 0.25
    y = physics.A(scene(1, 3, 4, 5))
    torch.testing.assert_close(physics.A(physics.A_dagger(y)), y)


def test_the_normalised_estimate_and_step_project_on_the_measurement():
    physics = operator().at(12, 15)
    y = physics.A(scene(2, 6, 12, 15))
    torch.testing.assert_close(physics.A(physics.initial_reconstruction(y)), y)
    x = scene(2, 6, 12, 15, seed=4)
    torch.testing.assert_close(physics.A(x - physics.back_project(physics.A(x) - y)), y)
    plain = operator(gradient="plain").at(12, 15)
    torch.testing.assert_close(plain.back_project(y), plain.A_adjoint(y))


@pytest.mark.parametrize("scaling", ["none", "mst"])
def test_initial_estimates(scaling):
    x = scene(1, 6, 12, 15)
    adjoint = operator(initial="adjoint", scaling=scaling)
    y = adjoint.A(x)
    torch.testing.assert_close(adjoint.initial_reconstruction(y), adjoint.A_adjoint(y))
    back = operator(initial="shift_back", scaling=scaling).initial_reconstruction(y)
    for b in range(6):
        # On the scale of y / 28 * 2, whichever scale y has.
        expected = operator().A(x)[0, 0, :, 2 * b : 2 * b + 15] * 2 / 6
        torch.testing.assert_close(back[0, b], expected)


def test_a_scene_is_seen_through_the_top_left_of_the_mask_and_a_patch_through_any_part():
    physics = operator(12, 15)
    assert torch.equal(physics.at(5, 7).aperture(5, 7), physics.mask[:5, :7])
    random = np.random.default_rng(0)
    corners = {physics.for_training((5, 5), random).corner for _ in range(3000)}
    assert corners == {(top, left) for top in range(8) for left in range(11)}
    bound = physics.for_training((5, 5), random)
    top, left = bound.corner
    x = scene(1, 6, 5, 5)
    mask = physics.mask[top : top + 5, left : left + 5]
    torch.testing.assert_close(bound.A(x), by_the_definition(x, mask, 2), rtol=0, atol=1e-12)


def test_gradients_flow_through_both_ways():
    physics = operator(4, 5, bands=3)
    x = scene(1, 3, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(physics.A, x)
    assert torch.autograd.gradcheck(physics.A_dagger, physics.A(x).detach().requires_grad_())


def test_shot_noise_has_the_mean_and_variance_of_its_model():
    quantum_efficiency, bits = 0.4, 11
    physics = operator(60, 60, bands=4, noise="shot", scaling="mst").at(60, 60)
    y = torch.full((1, 1, 300, 300), 0.37, dtype=torch.float64)
    noisy = physics.shot_noise(y)
    levels = 2**bits
    photons = math.floor(0.37 * levels / quantum_efficiency)
    count = y.numel()
    mean, variance = photons * quantum_efficiency / levels, photons * 0.4 * 0.6 / levels**2
    assert abs(float(noisy.mean()) - mean) < 5 * math.sqrt(variance / count)
    assert float(noisy.var()) == pytest.approx(variance, rel=0.03)
    # The same light, whatever the units of y.
    plain = operator(60, 60, bands=4, noise="shot").at(60, 60)
    torch.testing.assert_close(plain.shot_noise(2 * y), 2 * noisy)


def test_noise_is_the_same_for_a_scene_and_another_one_at_every_step():
    physics = operator(noise="shot")
    x = scene(1, 6, 12, 12)
    assert torch.equal(physics.at(12, 12)(x), physics.at(12, 12)(x))
    assert not torch.equal(physics.at(12, 12)(x), physics.at(12, 12).A(x))
    random = np.random.default_rng(0)
    first, second = (physics.for_training((12, 12), random) for _ in range(2))
    assert first.corner[0] == second.corner[0] == 0
    assert first.noise_seed != second.noise_seed
    assert torch.equal(operator().at(12, 12)(x), operator().at(12, 12).A(x))


def test_another_number_of_bands_is_refused():
    physics = CASSI(random_mask(20, 20, 0))
    with pytest.raises(LorunError, match="^the operator has 28 bands, this scene 27$"):
        physics.A(torch.rand(1, 27, 20, 20))
    with pytest.raises(LorunError, match=r"W above 54, this one has shape \(1, 1, 20, 54\)"):
        physics.A_adjoint(torch.rand(1, 1, 20, 54))


def test_a_scene_larger_than_the_mask_is_refused():
    physics = operator(12, 15)
    for use in (
        lambda: physics.at(13, 15),
        lambda: physics.for_training((13, 13), np.random.default_rng(0)),
        lambda: physics.A(scene(1, 6, 13, 15)),
    ):
        with pytest.raises(LorunError, match=r"^a scene of 13 x 1[35] is larger than the mask of 12 x 15$"):
            use()
    with pytest.raises(LorunError, match=r"bound to \(5, 5\) scenes, this one is \(5, 6\)"):
        physics.at(5, 5).A(scene(1, 6, 5, 6))


def test_a_mask_that_is_no_matrix_is_refused():
    with pytest.raises(LorunError, match=r"the mask has shape \(3, 4, 5\); it needs rows and columns"):
        CASSI(torch.ones(3, 4, 5))


def mask_file(folder, values, key="mask"):
    path = folder / "mask.mat"
    savemat(path, {key: values})
    return CASSIConfig(mask="file", mask_file=path, mask_side=8)


def test_a_mask_comes_from_a_matlab_file(tmp_path):
    values = np.random.default_rng(0).random((8, 8))
    physics = mask_file(tmp_path, values).build(torch.float64)
    np.testing.assert_array_equal(physics.mask.numpy(), values)


@pytest.mark.parametrize(
    ("values", "key", "words"),
    [
        (np.ones((8, 9)), "mask", r"variable `mask` has shape \(8, 9\), the setting needs \(8, 8\)"),
        (np.ones((8, 8, 28)), "mask", r"variable `mask` has shape \(8, 8, 28\), the setting needs \(8, 8\)"),
        (np.full((8, 8), np.nan), "mask", "variable `mask` has 64 values that are not finite"),
        (-np.ones((8, 8)), "mask", "variable `mask` has values from -1 to -1: a transmission is not negative"),
        (np.zeros((8, 8)), "mask", "variable `mask` has values from 0 to 0: a transmission is not negative"),
        (np.ones((8, 8)), "mask3d", "holds no variable `mask`, but `mask3d`"),
    ],
)
def test_a_wrong_mask_file_is_refused_by_name(tmp_path, values, key, words):
    with pytest.raises(LorunError, match=rf"mask\.mat: {words}"):
        mask_file(tmp_path, values, key).build()


def test_the_random_mask_is_its_seed_s():
    assert torch.equal(random_mask(9, 7, 3), random_mask(9, 7, 3))
    assert not torch.equal(random_mask(9, 7, 3), random_mask(9, 7, 4))
    assert set(random_mask(40, 40, 0).unique().tolist()) == {0.0, 1.0}
