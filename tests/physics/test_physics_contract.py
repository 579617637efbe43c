"""What every operator owes to the rest of the suite; those of new modules are tested too."""

import numpy as np
import pytest
import torch
from deepinv.physics import LinearPhysics

from lorun.config.section import settings
from lorun.errors import UnknownName
from lorun.physics import OPERATORS

VARIANTS = [
    {"name": "block_cs", "ratio": 10, "block": 33, "count": "ista_net", "padding": "always", "initial": "adjoint"},
    {"name": "block_cs", "ratio": 50, "block": 8, "matrix": "learned", "initial": "pseudo_inverse"},
    {"name": "block_cs", "ratio": 50, "block": 8, "matrix": "learned_binary", "initial": "adjoint"},
    {"name": "cassi", "bands": 5, "mask_side": 32},
    {
        "name": "cassi",
        "bands": 4,
        "step": 3,
        "mask_side": 26,
        "scaling": "mst",
        "initial": "shift_back",
        "gradient": "plain",
    },
    {"name": "blur_downsample", "scale": 1, "width": 1.0},
    {"name": "blur_downsample", "scale": 2, "training": "same"},
    {"name": "blur_downsample", "scale": 2, "kernels": "bicubic", "initial": "bicubic", "gradient": "plain"},
    {"name": "denoising", "noise": 0, "noise_range": (0, 50)},
]
CONFIGS = [*(section.example().config for section in OPERATORS), *map(OPERATORS.parse, VARIANTS)]


@pytest.fixture(params=CONFIGS, ids=lambda config: f"{config.name}-{config.kind}")
def config(request):
    return request.param


@pytest.fixture
def physics(config):
    return config.build(torch.float64).at(20, 26)


@pytest.fixture
def x(config):
    return torch.rand(2, config.channels or 1, 20, 26, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("section", list(OPERATORS), ids=lambda section: section.__name__)
def test_an_example_can_be_given_in_a_profile_and_has_the_channels_that_it_measures(section):
    example = section.example()
    for config, channels in [*((example.config, channels) for channels in example.channels), example.published]:
        assert OPERATORS.parse(settings(config)) == config
        assert config.channels in (None, channels)
        assert config.build().at(8, 8).A(torch.rand(1, channels, 8, 8)).isfinite().all()


def test_what_tables_say_of_it_is_one_line(config):
    assert config.task
    assert " " not in config.kind
    assert config.heading.strip() == config.heading != ""
    assert "\n" not in config.heading


def test_is_a_deepinv_operator_that_passes_its_adjointness_test(physics, x):
    assert isinstance(physics, LinearPhysics)
    assert physics.adjointness_test(x).abs() < 1e-10


def test_is_linear(physics, x):
    torch.testing.assert_close(physics.A(2 * x + x.flip(0)), 2 * physics.A(x) + physics.A(x.flip(0)))


def test_a_measurement_has_the_noise_level_that_the_operator_states(physics, x):
    y = physics(x)
    noise = (y - physics.A(x)).flatten(1).std(1)
    torch.testing.assert_close(noise, physics.noise_level(y).flatten(), rtol=0.2, atol=1e-9)
    assert torch.equal(y, physics(x))


def test_initial_estimate_has_the_shape_of_the_image(physics, x):
    assert physics.initial_reconstruction(physics(x)).shape == x.shape


def test_back_projection_is_linear_and_has_the_shape_of_the_image(physics, x):
    y = physics.A(x)
    back = physics.back_project(y)
    assert back.shape == x.shape
    torch.testing.assert_close(physics.back_project(3 * y), 3 * back)


def test_gradient_steps_of_the_operator_approach_the_measurement(physics, x):
    y = physics.A(x)
    largest = max_eigenvalue(physics, x)
    estimate = torch.zeros_like(x)
    before = y.norm()
    for _ in range(3):
        estimate = estimate - physics.back_project(physics.A(estimate) - y) / largest
        now = (physics.A(estimate) - y).norm()
        assert now < before or now < 1e-12
        before = now


def max_eigenvalue(physics, x):
    v = torch.rand_like(x)
    for _ in range(50):
        v = physics.back_project(physics.A(v / v.norm()))
    return v.norm()


def test_a_bound_operator_shares_all_it_holds(config):
    physics = config.build(torch.float64)
    bound = physics.at(20, 26)
    held = {tensor.data_ptr() for tensor in physics.state_dict().values()}
    assert {tensor.data_ptr() for tensor in bound.state_dict().values()} == held
    assert physics.size is None
    assert bound.size == (20, 26)


def test_an_operator_for_training_depends_on_its_generator_alone(config):
    physics = config.build(torch.float64)
    x = torch.rand(2, config.channels or 1, 16, 16, dtype=torch.float64)
    one, same = (physics.for_training((16, 16), np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(one(x), same(x))
    assert one.size == (16, 16)
    assert one.adjointness_test(x).abs() < 1e-10


def test_the_size_of_a_scene_follows_from_its_measurement(config, physics, x):
    if config.name == "block_cs":
        pytest.skip("blocks: the measurement does not tell how much was padded")
    assert physics.scene_of(*physics.A(x).shape[2:]) == (20, 26)


def test_what_is_scored_of_an_image_lies_inside_and_is_scored_whole(config, physics):
    height, width = physics.scored_size(41, 53)
    assert 0 < height <= 41
    assert 0 < width <= 53
    assert physics.scored_size(height, width) == (height, width)


def test_degradations_are_those_of_the_configuration(config, physics):
    assert physics.degradations == config.degradations
    with pytest.raises(UnknownName, match="unknown (degradation|kernel) 'none'"):
        physics.under("none")


def test_state_survives_saving(config, physics, x):
    state = {name: tensor.clone() for name, tensor in physics.state_dict().items()}
    other = config.build(torch.float64)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.zero_()
    other.load_state_dict(state)
    torch.testing.assert_close(other.at(20, 26).A(x), physics.A(x))
