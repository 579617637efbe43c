"""What every physics owes to the rest of the suite."""

import pytest
import torch
from deepinv.physics import LinearPhysics

from lorun.config import BlockCSConfig
from lorun.physics import build_physics

PHYSICS = {
    "block_cs": BlockCSConfig(ratio=25, block=8),
    "block_cs_33": BlockCSConfig(ratio=10, block=33, count="ista_net", padding="always", initial="adjoint"),
    "block_cs_learned": BlockCSConfig(ratio=50, block=8, matrix="learned", initial="pseudo_inverse"),
    "block_cs_learned_binary": BlockCSConfig(ratio=50, block=8, matrix="learned_binary", initial="adjoint"),
}


@pytest.fixture(params=PHYSICS)
def config(request):
    return PHYSICS[request.param]


@pytest.fixture
def physics(config):
    return build_physics(config, torch.float64).at(20, 26)


@pytest.fixture
def x():
    return torch.rand(2, 1, 20, 26, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_is_a_deepinv_operator_that_passes_its_adjointness_test(physics, x):
    assert isinstance(physics, LinearPhysics)
    assert physics.adjointness_test(x).abs() < 1e-10


def test_is_linear_and_called_like_a_function(physics, x):
    torch.testing.assert_close(physics.A(2 * x + x.flip(0)), 2 * physics.A(x) + physics.A(x.flip(0)))
    torch.testing.assert_close(physics(x), physics.A(x))


def test_initial_estimate_has_the_shape_of_the_image(physics, x):
    assert physics.initial_estimate(physics(x)).shape == x.shape


def test_state_survives_saving(config, physics, x):
    state = {name: tensor.clone() for name, tensor in physics.state_dict().items()}
    other = build_physics(config, torch.float64)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.zero_()
    other.load_state_dict(state)
    torch.testing.assert_close(other.at(20, 26).A(x), physics.A(x))
