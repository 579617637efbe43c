"""Blur and decimation against their definitions, dense matrices and other libraries."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.io import loadmat, savemat
from scipy.ndimage import convolve, zoom
from tiny import PROJECT

from lorun import seeds
from lorun.errors import LorunError, UnknownName
from lorun.physics._kernels import bicubic_kernel, drawn_kernel, gaussian_kernel, motion_kernel, read_kernels
from lorun.physics.blur_downsample import BlurDownsample, BlurDownsampleConfig, enlarged


def image(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def operator(kernel=None, size=None, **options):
    kernel = image(5, 5, seed=7) if kernel is None else kernel
    physics = BlurDownsample([kernel / kernel.sum()], dtype=torch.float64, **options)
    return physics if size is None else physics.at(*size)


def by_the_definition(x, kernel, scale):
    """Pixel by pixel, tap by tap."""
    rows, columns = kernel.shape
    blurred = torch.zeros_like(x)
    for row in range(rows):
        for column in range(columns):
            shift = (row - rows // 2, column - columns // 2)
            blurred += kernel[row, column] * torch.roll(x, shift, (2, 3))
    return blurred[:, :, ::scale, ::scale]


def dense(physics, size):
    n = size[0] * size[1]
    return physics.A(torch.eye(n, dtype=torch.float64).reshape(n, 1, *size)).flatten(1).T  # (m, n)


@settings(max_examples=40, deadline=None)
@given(
    scale=st.integers(1, 4),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    height=st.integers(3, 13),
    width=st.integers(3, 13),
)
def test_equals_direct_convolution_and_has_its_adjoint(scale, rows, columns, height, width):
    """Kernels of odd and even sides, not square, larger than the image; images not divisible by the scale."""
    kernel = image(rows, columns, seed=3)
    physics = operator(kernel, (height, width), scale=scale)
    x = image(2, 3, height, width)
    y = physics.A(x)
    torch.testing.assert_close(y, by_the_definition(x, kernel / kernel.sum(), scale), rtol=0, atol=1e-12)
    v = image(*y.shape, seed=4)
    assert abs(float((y * v).sum() - (x * physics.A_adjoint(v)).sum())) < 1e-10


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (25, 25)])
def test_equals_scipy_s_circular_convolution(shape):
    kernel, x = image(*shape, seed=2), image(1, 1, 30, 41)
    expected = convolve(x[0, 0].numpy(), (kernel / kernel.sum()).numpy(), mode="wrap")
    np.testing.assert_allclose(operator(kernel).A(x)[0, 0].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("gamma", [0.05, 40.0, torch.tensor(3.0, dtype=torch.float64)])
def test_the_proximal_step_is_the_solution_of_its_normal_equations(scale, gamma):
    size = (4 * scale, 3 * scale)
    physics = operator(image(4, 7, seed=1), size, scale=scale)
    a = dense(physics, size)
    z, y = image(1, 1, *size), image(1, 1, 4, 3, seed=5)
    exact = torch.linalg.solve(torch.eye(a.shape[1]) + gamma * a.T @ a, z.flatten() + gamma * a.T @ y.flatten())
    torch.testing.assert_close(physics.prox_l2(z, y, gamma).flatten(), exact)


def test_each_image_of_a_batch_may_have_a_proximal_step_of_its_own():
    physics = operator(image(4, 7, seed=1), (8, 6), scale=2)
    z, y = image(2, 1, 8, 6), image(2, 1, 4, 3, seed=5)
    found = physics.prox_l2(z, y, torch.tensor([0.05, 40.0]).view(2, 1, 1, 1))
    for one, gamma in enumerate((0.05, 40.0)):
        torch.testing.assert_close(found[one : one + 1], physics.prox_l2(z[one : one + 1], y[one : one + 1], gamma))


def test_the_proximal_step_keeps_its_digits_where_the_data_are_trusted():
    physics = operator(image(4, 7, seed=1), (16, 12), scale=2)
    z, y = image(1, 1, 16, 12), image(1, 1, 8, 6, seed=5)
    exact = physics.prox_l2(z, y, 1e5)
    found = BlurDownsample([physics.kernel], scale=2).at(16, 12).prox_l2(z.float(), y.float(), 1e5)
    assert (found - exact).abs().max() < 1e-4 * exact.abs().max()


def test_the_proximal_step_of_an_image_that_the_scale_does_not_divide():
    size = (7, 9)
    physics = operator(size=size, scale=2)
    a = dense(physics, size)
    z, y = image(1, 1, *size), image(1, 1, 4, 5, seed=5)
    exact = torch.linalg.solve(torch.eye(63) + 5 * a.T @ a, z.flatten() + 5 * a.T @ y.flatten())
    found = physics.prox_l2(z, y, 5.0).flatten()
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(12, 9), (7, 10)])
def test_tikhonov_is_the_regularised_inverse(size):
    physics = operator(size=size, scale=3, epsilon=1e-2)
    a = dense(physics, size)
    y = image(1, 1, -(-size[0] // 3), -(-size[1] // 3))
    exact = a.T @ torch.linalg.solve(a @ a.T + 1e-2 * torch.eye(len(a)), y.flatten())
    torch.testing.assert_close(physics.initial_reconstruction(y).flatten(), exact, rtol=0, atol=1e-3)
    torch.testing.assert_close(physics.back_project(y), physics.initial_reconstruction(y))


def test_the_field_s_sizes():
    physics = operator(scale=3)
    assert physics.A(image(1, 3, 48, 96)).shape == (1, 3, 16, 32)
    assert physics.scene_of(16, 32) == (48, 96)
    assert physics.at(47, 95).A(image(1, 3, 47, 95)).shape == (1, 3, 16, 32)
    assert physics.at(47, 95).A_adjoint(image(1, 3, 16, 32)).shape == (1, 3, 47, 95)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_enlarged_images_keep_the_pixels_that_decimation_took(scale):
    y = image(1, 2, 5, 6)
    for kind in ("bicubic", "nearest"):
        x = enlarged(y, scale, kind, (5 * scale, 6 * scale))
        torch.testing.assert_close(x[..., ::scale, ::scale], y)
    # In between, Keys' cubic reproduces parabolas.
    ramp = (torch.arange(8, dtype=torch.float64) ** 2)[None, None, None].expand(1, 1, 8, 8)
    x = enlarged(ramp, scale, "bicubic", (8 * scale, 8 * scale))
    at = torch.arange(2 * scale, 5 * scale, dtype=torch.float64) / scale
    torch.testing.assert_close(x[0, 0, 0, 2 * scale : 5 * scale], at**2)
    assert x.shape == (1, 1, 8 * scale, 8 * scale)


def test_bicubic_enlargement_equals_a_direct_evaluation_by_scipy_s_grid():
    y = image(1, 1, 6, 6)
    nearest = enlarged(y, 2, "nearest", (12, 12))
    np.testing.assert_array_equal(
        nearest[0, 0].numpy(), zoom(y[0, 0].numpy(), 2, order=0, grid_mode=True, mode="nearest")
    )


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_bicubic_kernel_reduces_as_an_antialiased_bicubic_resize_does(scale):
    x = image(1, 1, 12 * scale, 12 * scale)
    kernel = bicubic_kernel(scale)
    ours = BlurDownsample([kernel], scale=scale, dtype=torch.float64).A(x)
    theirs = torch.nn.functional.interpolate(
        x, scale_factor=1 / scale, mode="bicubic", align_corners=False, antialias=True
    )
    inside = slice(3, -3)  # borders wrap here and are renormalised there
    torch.testing.assert_close(ours[..., inside, inside], theirs[..., inside, inside], rtol=0, atol=2e-6)


def test_conditions_choose_the_kernel():
    kernels = [image(3, 3, seed=1), image(3, 3, seed=2)]
    physics = BlurDownsample(kernels, degradations=["one", "two"], dtype=torch.float64)
    assert torch.equal(physics.kernel, kernels[0])
    assert torch.equal(physics.under("two").kernel, kernels[1])
    assert torch.equal(physics.kernel, kernels[0])
    with pytest.raises(UnknownName, match="unknown kernel 'three'"):
        physics.under("three")
    assert BlurDownsample(kernels).degradations == ("1", "2")
    assert BlurDownsample(kernels[:1]).degradations == ()
    assert BlurDownsample(kernels[:1], degradations=["7"]).degradations == ("7",)
    with pytest.raises(LorunError, match="2 kernels with 1 names: one"):
        BlurDownsample(kernels, degradations=["one"])


@pytest.mark.parametrize(
    ("scale", "modcrop", "size"),
    [(3, 8, (24, 48)), (2, 8, (40, 64)), (4, 6, (36, 60)), (3, 1, (45, 66)), (1, 1, (47, 67)), (3, None, (47, 67))],
)
def test_scored_images_are_cropped_to_a_multiple_of_the_scale_and_of_modcrop(scale, modcrop, size):
    physics = operator(scale=scale, modcrop=modcrop)
    assert physics.scored_size(47, 67) == size
    assert physics.scored_size(*size) == size
    assert physics.smallest == physics.multiple


def test_training_draws_a_kernel_a_step_that_is_none_of_those_that_are_scored():
    physics = operator(scale=2)
    drawn = [physics.for_training((8, 8), np.random.default_rng(seed)).kernel for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    same = BlurDownsample([image(3, 3, seed=s) for s in range(4)], training="same", dtype=torch.float64)
    random = np.random.default_rng(0)
    assert {same.for_training((8, 8), random).chosen for _ in range(60)} == {0, 1, 2, 3}


def test_training_may_draw_a_scale_a_step():
    physics = operator(scale=2, training_scales=[2, 3, 4])
    bound = [physics.for_training((12, 12), np.random.default_rng(seed)) for seed in range(40)]
    sides = {2: 6, 3: 4, 4: 3}
    assert {one.scale for one in bound} == set(sides)
    for one in bound:
        y = one(image(1, 1, 12, 12))
        assert y.shape[2:] == (sides[one.scale],) * 2
        assert one.decimation == one.scale
        assert one.initial_reconstruction(y).shape[2:] == (12, 12)
    assert physics.scale == physics.at(12, 12).scale == 2
    with pytest.raises(LorunError, match="a patch of 16 x 16 is no multiple of the scale 3"):
        physics.for_training((16, 16), np.random.default_rng(0))


def test_a_patch_that_the_scale_does_not_divide_is_refused():
    with pytest.raises(LorunError, match="a patch of 64 x 64 is no multiple of the scale 3"):
        operator(scale=3).for_training((64, 64), np.random.default_rng(0))


def test_noise_has_its_level_and_its_seed():
    physics = operator(noise=7.65, size=(200, 200))
    x = image(1, 1, 200, 200)
    noise = physics(x) - physics.A(x)
    assert float(noise.std()) == pytest.approx(7.65 / 255, rel=0.02)
    assert torch.equal(physics(x), physics(x))
    first, second = (physics.for_training((200, 200), np.random.default_rng(seed)) for seed in (0, 1))
    assert first.noise_seed != second.noise_seed


def by_the_script(pixels, kernel, scale):
    """Bytes (H, W, C) blurred in float64 tap by tap, cut to bytes, decimated: without scipy, torch and modulo."""
    rows, columns = kernel.shape
    total = np.zeros(pixels.shape)
    for row in reversed(range(rows)):
        for column in reversed(range(columns)):
            total += kernel[row, column] * np.roll(pixels, (row - rows // 2, column - columns // 2), (0, 1))
    return total.astype(np.uint8)[::scale, ::scale]


@pytest.fixture(scope="module")
def bytes_():
    """Pixels: noise, where few sums are near a grey level, and flat areas, where all are."""
    noise = np.random.default_rng(0).integers(0, 256, (25, 34, 3)).astype(np.uint8)
    flat = np.repeat(np.repeat(noise[::9, ::9], 9, axis=0), 9, axis=1)[:25, :34]
    return noise, flat


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("number", range(1, 13))
def test_the_8_bit_degradation_is_the_script_s_pixel_for_pixel(bytes_, number, scale, dtype):
    path = PROJECT / "data/kernels12/kernels_12.mat"
    if not path.exists():
        pytest.skip("data/kernels12 is not there: `lorun data fetch kernels12`")
    kernel = loadmat(path)["kernels"][0, number - 1].astype(np.float64)
    options = {"kernels": "file", "kernels_file": path, "scored": list(range(12, 0, -1))}
    physics = BlurDownsampleConfig(scale=scale, quantisation="usrnet_uint8", **options).build(dtype).under(str(number))
    for pixels in bytes_:
        expected = by_the_script(pixels, kernel, scale)
        np.testing.assert_array_equal(expected, convolve(pixels, kernel[..., None], mode="wrap")[::scale, ::scale])
        y = physics((torch.from_numpy(pixels).to(dtype) / 255).permute(2, 0, 1)[None])
        assert y.dtype == dtype
        np.testing.assert_array_equal((y[0] * 255).permute(1, 2, 0).round().numpy(), expected)


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (5, 2), (25, 3)])
def test_the_8_bit_degradation_of_any_kernel(bytes_, shape):
    kernel = (image(*shape, seed=5) / image(*shape, seed=5).sum()).float()
    for pixels in bytes_:
        x = torch.from_numpy(pixels[:11, :8] / 255).permute(2, 0, 1)[None]
        y = BlurDownsample([kernel], scale=2, quantisation="usrnet_uint8")(x)
        expected = by_the_script(pixels[:11, :8], kernel.double().numpy(), 2)
        np.testing.assert_array_equal((y[0] * 255).permute(1, 2, 0).round().numpy(), expected)


def test_truncation_takes_half_a_grey_level_on_average(bytes_):
    x = torch.from_numpy(bytes_[0] / 255).permute(2, 0, 1)[None]
    kernel = gaussian_kernel(25, (1.6, 1.6), 0.0)
    exact = operator(kernel, scale=2).A(x)
    assert float((exact - operator(kernel, scale=2, quantisation="usrnet_uint8")(x)).mean()) * 255 == pytest.approx(
        0.5, abs=0.1
    )


def test_training_measures_in_8_bits_with_the_kernel_that_it_drew(bytes_):
    config = BlurDownsampleConfig(scale=2, quantisation="usrnet_uint8")
    x = torch.from_numpy(bytes_[0][:24, :24] / np.float32(255)).permute(2, 0, 1)[None]
    seed = [1, 2]
    random = np.random.default_rng(seed)
    random.integers(2**63)
    expected = by_the_script(bytes_[0][:24, :24], drawn_kernel(2, random).float().double().numpy(), 2)
    y = config.build().for_training((24, 24), np.random.default_rng(seed))(x)
    np.testing.assert_array_equal((y[0] * 255).permute(1, 2, 0).round().numpy(), expected)
    with pytest.raises(LorunError, match=r"bound to \(24, 24\) images, this one is \(24, 22\)"):
        config.build().at(24, 24)(x[..., :22])


def test_gradients_flow_through_the_closed_form():
    physics = operator(size=(4, 6), scale=2)
    z, y = image(1, 1, 4, 6).requires_grad_(), image(1, 1, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda z, y: physics.prox_l2(z, y, 2.0), (z, y))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("scale", [1, 4])
def test_drawn_kernels_are_kernels(seed, scale):
    for kernel in (drawn_kernel(scale, np.random.default_rng(seed)), motion_kernel(15, np.random.default_rng(seed))):
        assert float(kernel.min()) >= 0
        assert float(kernel.sum()) == pytest.approx(1)
        assert kernel.shape in {(25, 25), (15, 15)}


def test_scored_kernels_may_be_drawn_by_number_and_are_no_kernels_of_training():
    config = BlurDownsampleConfig(scale=2, kernels="drawn", scored=[3, 1])
    physics = config.build()
    again = config.model_copy(update={"scored": [1]}).build()
    assert physics.degradations == ("3", "1")
    assert torch.equal(physics.under("1").kernel, again.kernel)
    assert not torch.equal(physics.under("3").kernel, again.kernel)
    assert config.heading.startswith("scale 2, kernels 3, 1 drawn at random")
    trained = [
        physics.for_training((8, 8), np.random.default_rng([seed, seeds.OPERATOR, 0])).kernel for seed in range(9)
    ]
    assert not any(torch.equal(kernel, again.kernel) for kernel in trained)


@pytest.mark.parametrize(("kernels", "scored"), [("drawn", []), ("gaussian", [1]), ("bicubic", [2])])
def test_kernels_are_numbered_where_there_are_several(kernels, scored):
    with pytest.raises(ValidationError, match="`scored` numbers the kernels"):
        BlurDownsampleConfig(scale=2, kernels=kernels, scored=scored)


def test_a_gaussian_has_the_widths_and_the_direction_that_it_is_asked_for():
    kernel = gaussian_kernel(41, (4.0, 2.0), np.pi / 2)  # its long axis goes down
    at = torch.arange(41, dtype=torch.float64) - 20
    assert float((kernel.sum(1) * at**2).sum()) == pytest.approx(16, rel=0.01)
    assert float((kernel.sum(0) * at**2).sum()) == pytest.approx(4, rel=0.01)


def test_kernels_come_from_matlab_cells_and_numpy(tmp_path):
    cells = np.empty((1, 2), dtype=object)
    cells[0, 0], cells[0, 1] = np.ones((3, 3)), np.eye(5)
    savemat(tmp_path / "k.mat", {"kernels": cells})
    first, second = read_kernels(tmp_path / "k.mat")
    torch.testing.assert_close(first, torch.full((3, 3), 1 / 9, dtype=torch.float64))
    torch.testing.assert_close(second, torch.eye(5, dtype=torch.float64) / 5)
    stored = np.float32([[0.1, 0.2, 0.7]]) + np.float32(1e-8)  # sums to 1 in single precision only
    savemat(tmp_path / "k.mat", {"kernels": stored})
    assert 0 < abs(stored.astype(float).sum() - 1) < 1e-6
    np.testing.assert_array_equal(read_kernels(tmp_path / "k.mat")[0].numpy(), stored)
    np.save(tmp_path / "k.npy", np.ones((2, 4, 3)))
    assert [tuple(kernel.shape) for kernel in read_kernels(tmp_path / "k.npy")] == [(4, 3), (4, 3)]


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("kernel", np.ones((3, 3)), "holds no variable `kernels`, but `kernel`"),
        ("kernels", np.full((3, 3), np.nan), r"kernel 1 is not a matrix of finite real numbers"),
        ("kernels", np.zeros((3, 3)), "kernel 1 sums to 0, expected a positive sum"),
    ],
)
def test_wrong_kernels_are_refused_by_name(tmp_path, name, values, words):
    savemat(tmp_path / "k.mat", {name: values})
    with pytest.raises(LorunError, match=rf"k\.mat: {words}"):
        read_kernels(tmp_path / "k.mat")
    with pytest.raises(LorunError, match="cannot read .*absent.mat: No such file"):
        read_kernels(tmp_path / "absent.mat")
