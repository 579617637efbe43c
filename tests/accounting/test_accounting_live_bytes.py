"""Live bytes: against arithmetic by hand, fake against real tensors, and each call against the one before."""

import gc
from functools import partial

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from lorun.accounting import live_bytes
from lorun.accounting.live_bytes import Peak, inference_bytes
from lorun.config import TrainingConfig
from lorun.errors import LorunError

FLOAT = 4  # bytes

PLAIN = TrainingConfig(steps=2, clip_norm=None, precision="float32")
"""Adam on the mean squared error, and nothing else."""

training_step_bytes = partial(live_bytes.training_step_bytes, config=PLAIN)
cuda_training_peak = partial(live_bytes.cuda_training_peak, config=PLAIN)


class Doubling(nn.Module):
    """The simplest operator whose measurement is a storage of its own."""

    def forward(self, x):
        return self.A(x)

    def A(self, x):
        return 2 * x

    def A_adjoint(self, y):
        return 2 * y


class LearnedGain(Doubling):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def A(self, x):
        return self.gain * x


class Denoiser(nn.Module):
    """Calls ``layers`` on y, whatever the physics."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, y, physics):
        return self.layers(y)


class Unfolding(nn.Module):
    """Gradient and proximal steps; each proximal step may be checkpointed."""

    def __init__(self, stages=2, width=8, checkpointed=False, frozen=False, dropout=0.0):
        super().__init__()
        self.checkpointed = checkpointed
        self.step_sizes = nn.Parameter(torch.ones(stages))
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(1, width, 3, padding=1),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Conv2d(width, 1, 3, padding=1),
            )
            for _ in range(stages)
        )
        if frozen:
            self.stages[0].requires_grad_(False)

    def forward(self, y, physics):
        x = physics.A_adjoint(y)
        for stage, step_size in zip(self.stages, self.step_sizes, strict=True):
            z = x - step_size * physics.A_adjoint(physics.A(x) - y)
            x = z + (checkpoint(stage, z, use_reentrant=False) if self.checkpointed else stage(z))
        return x


class ComposedWeights(nn.Module):
    """One frozen convolution; stage k calls it with the weight W + B_k A_k."""

    def __init__(self, checkpointed=False, stages=3):
        super().__init__()
        self.checkpointed = checkpointed
        self.base = nn.Conv2d(1, 1, 3, padding=1).requires_grad_(False)
        self.down = nn.ParameterList(torch.randn(2, 9) for _ in range(stages))
        self.up = nn.ParameterList(torch.zeros(1, 2) for _ in range(stages))

    def stage(self, z, k):
        weight = self.base.weight + (self.up[k] @ self.down[k]).view(1, 1, 3, 3)
        return functional_call(self.base, {"weight": weight}, (z,))

    def forward(self, y, physics):
        for k in range(len(self.up)):
            z = torch.relu(y)
            y = y + (checkpoint(self.stage, z, k, use_reentrant=False) if self.checkpointed else self.stage(z, k))
        return y


class Tokens(nn.Module):
    """Rows of the image as tokens of a transformer layer."""

    def __init__(self, width=16):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(width, 2, 2 * width, batch_first=True)

    def forward(self, y, physics):
        return self.layer(y[:, 0])[:, None]


NETWORKS = {
    "convolutions": lambda: Denoiser(nn.Conv2d(1, 4, 3, padding=1), nn.GELU(), nn.Conv2d(4, 1, 3, padding=1)),
    "unfolding": Unfolding,
    "frozen stage": lambda: Unfolding(frozen=True),
    "checkpointed": lambda: Unfolding(checkpointed=True),
    "checkpointed dropout": lambda: Unfolding(checkpointed=True, dropout=0.1),
    "composed weights": ComposedWeights,
    "composed weights, checkpointed": lambda: ComposedWeights(checkpointed=True),
    "transformer": Tokens,
    "U-shape": lambda: Denoiser(
        nn.Conv2d(1, 4, 2, stride=2), nn.GroupNorm(2, 4), nn.SiLU(), nn.ConvTranspose2d(4, 1, 2, stride=2)
    ),
    "pixel shuffle": lambda: Denoiser(
        nn.PixelUnshuffle(2), nn.Conv2d(4, 4, 1), nn.PReLU(), nn.PixelShuffle(2), nn.Upsample(scale_factor=1)
    ),
}


def kinds(peak: Peak) -> int:
    return peak.parameters + peak.gradients + peak.optimiser + peak.activations + peak.other


@pytest.mark.parametrize("fake", [True, False])
def test_linear_layer_that_peaks_in_the_backward_pass(fake):
    image = 2 * 1 * 4 * 4 * FLOAT  # 128 bytes: x, y, the estimate and its gradient have one size
    weight = 4 * 4 * FLOAT  # 64
    peak = training_step_bytes(lambda: (Denoiser(nn.Linear(4, 4, bias=False)), Doubling()), (2, 1, 4, 4), fake=fake)
    # It peaks when the loss passes its gradient to the estimate, before the weight has its own.
    assert peak == Peak(
        total=716,
        phase="backward",
        parameters=weight,
        gradients=0,
        optimiser=weight + weight + FLOAT,  # exp_avg, exp_avg_sq, step: 132
        activations=image + image + FLOAT,  # y, estimate, loss: 260
        other=image + FLOAT + image,  # x, gradient of the loss (a one), gradient of the estimate: 260
    )


@pytest.mark.parametrize("fake", [True, False])
def test_linear_layer(fake):
    image = 8 * FLOAT  # 32 bytes
    weight = 8 * 8 * FLOAT  # 256
    peak = training_step_bytes(lambda: (Denoiser(nn.Linear(8, 8, bias=False)), Doubling()), (1, 1, 1, 8), fake=fake)
    assert peak == Peak(
        total=1132,
        phase="backward",  # the optimiser is fused: it makes no tensors of its own
        parameters=weight,
        gradients=0,
        optimiser=weight + weight + FLOAT,  # 516
        activations=image + FLOAT,  # y, loss
        other=image + FLOAT + image + weight,  # x; gradients of loss, estimate and weight, which is not complete yet
    )


def two_convolutions():
    layers = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1)
    return Denoiser(*layers), Doubling()


@pytest.mark.parametrize("fake", [True, False])
def test_training_two_convolutions(fake):
    image = 8 * 8 * FLOAT  # 256 bytes
    features = 4 * image  # 1024
    first = (4 * 1 * 3 * 3 + 4) * FLOAT  # 160
    second = (1 * 4 * 3 * 3 + 1) * FLOAT  # 148
    peak = training_step_bytes(two_convolutions, (1, 1, 8, 8), fake=fake)
    # It peaks when the gradient passes the ReLU: the second convolution has its gradients, the estimate is gone.
    assert peak == Peak(
        total=4680,
        phase="backward",
        parameters=first + second,  # 308
        gradients=second,
        optimiser=2 * (first + second) + 4 * FLOAT,  # two moments, and a step for each of four tensors: 632
        activations=image + features + FLOAT,  # y, output of the ReLU, loss: 1284
        other=image + FLOAT + features + features,  # x, gradients of loss, ReLU's output, its input: 2308
    )


@pytest.mark.parametrize("fake", [True, False])
def test_inference_with_two_convolutions(fake):
    image = 8 * 8 * FLOAT  # 256 bytes
    peak = inference_bytes(two_convolutions, (1, 1, 8, 8), fake=fake)
    assert peak == Peak(
        total=2612,
        phase="forward",
        parameters=77 * FLOAT,  # 308
        gradients=0,
        optimiser=0,
        activations=2 * 4 * image,  # input and output of the ReLU: 2048
        other=image,  # y
    )


def test_double_precision_doubles_the_bytes():
    peak = inference_bytes(two_convolutions, (1, 1, 8, 8), dtype=torch.float64)
    assert peak.total == 2 * 2612
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("name", NETWORKS)
def test_fake_tensors_and_real_ones_agree_at_every_call(name):
    def build():
        return NETWORKS[name](), LearnedGain()

    first, *more = [training_step_bytes(build, (2, 1, 16, 16), fake=fake) for fake in (True, False, True, False)]
    assert more == [first] * 3
    assert kinds(first) == first.total
    first, *more = [inference_bytes(build, (1, 1, 16, 16), fake=fake) for fake in (True, False, True, False)]
    assert more == [first] * 3
    assert kinds(first) == first.total


def test_checkpointing_lowers_the_peak():
    plain, checkpointed = (
        training_step_bytes(lambda on=on: (Unfolding(4, checkpointed=on), Doubling()), (2, 1, 32, 32))
        for on in (False, True)
    )
    # Without it all four stages' inner activations are live at once, with it one stage's.
    assert checkpointed.activations < 0.4 * plain.activations
    assert checkpointed.total < 0.5 * plain.total
    assert checkpointed.parameters == plain.parameters
    assert checkpointed.optimiser == plain.optimiser


def test_frozen_parameters_have_no_states():
    every, some = (
        training_step_bytes(lambda frozen=frozen: (Unfolding(frozen=frozen), Doubling()), (2, 1, 16, 16))
        for frozen in (False, True)
    )
    stage = 8 * 9 + 8 + 8 + 8 + 8 * 9 + 1  # convolution, normalisation, convolution
    assert every.parameters == some.parameters
    assert every.optimiser - some.optimiser == 2 * stage * FLOAT + 6 * FLOAT  # six tensors, a step each


def test_a_step_of_many_gigabytes_needs_no_memory():
    peak = training_step_bytes(lambda: (Unfolding(width=256), Doubling()), (16, 1, 512, 512))
    assert peak.total > 20 * 2**30


def test_a_shared_storage_counts_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = nn.Linear(4, 4, bias=False)
            self.two = nn.Linear(4, 4, bias=False)
            self.two.weight = self.one.weight
            self.register_buffer("transposed", self.one.weight.detach().t())

        def forward(self, y, physics):
            return self.two(self.one(y)) @ self.transposed

    peak = training_step_bytes(lambda: (Tied(), Doubling()), (1, 1, 4, 4))
    assert peak.parameters == 4 * 4 * FLOAT
    assert peak.optimiser == 2 * 4 * 4 * FLOAT + FLOAT


def test_only_what_the_step_touches_counts():
    class Masking(Doubling):
        def __init__(self):
            super().__init__()
            self.mask = torch.ones(8, 8)  # neither parameter nor buffer, but in use

        def A(self, x):
            return self.mask * x

    unused = []

    def build():
        unused.append(torch.ones(1000))
        return two_convolutions()[0], Masking()

    plain = training_step_bytes(two_convolutions, (1, 1, 8, 8))
    masked = training_step_bytes(build, (1, 1, 8, 8))
    assert masked.total - plain.total == 8 * 8 * FLOAT
    assert masked.other - plain.other == 8 * 8 * FLOAT


def test_garbage_does_not_wait_for_python():
    class Cyclic(Denoiser):
        """Leaves a reference cycle with an image in it at every call."""

        def forward(self, y, physics):
            cycle = [y + 1]
            cycle.append(cycle)
            return super().forward(y, physics)

    def build():
        return Cyclic(nn.Conv2d(1, 1, 3, padding=1)), Doubling()

    thresholds = gc.get_threshold()
    gc.set_threshold(5)  # collect all the time
    try:
        often = training_step_bytes(build, (1, 1, 8, 8), fake=False)
    finally:
        gc.set_threshold(*thresholds)
    assert gc.isenabled()
    assert often == training_step_bytes(build, (1, 1, 8, 8), fake=False)
    assert often == training_step_bytes(build, (1, 1, 8, 8))


def test_modules_may_be_moved_and_loaded_while_built():
    weights = nn.Conv2d(1, 1, 5, padding=2, bias=False).state_dict()

    def build():
        network = Denoiser(nn.Conv2d(1, 1, 5, padding=2, bias=False))
        network.to("cpu", dtype=torch.float32)  # as peft does
        network.layers[0].load_state_dict(weights)
        return network, Doubling()

    assert training_step_bytes(build, (1, 1, 8, 8)).parameters == 25 * FLOAT


def test_a_parameter_made_of_a_number_may_be_moved_too():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.tensor(0.5))
            self.gains = nn.ParameterList([self.gain])

        def forward(self, y, physics):
            return self.gain * y

    def build():
        return Scaled().to(memory_format=torch.channels_last), Doubling()

    assert inference_bytes(build, (1, 1, 8, 8)) == inference_bytes(build, (1, 1, 8, 8), fake=False)


def test_global_random_numbers_are_not_used():
    state = torch.get_rng_state()
    training_step_bytes(two_convolutions, (1, 1, 8, 8))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("fake", [True, False])
def test_nothing_to_train_is_an_error(fake):
    with pytest.raises(LorunError, match="Denoiser and Doubling have no trainable parameters"):
        training_step_bytes(lambda: (Denoiser(nn.ReLU()), Doubling()), (1, 1, 8, 8), fake=fake)
    assert inference_bytes(lambda: (Denoiser(nn.ReLU()), Doubling()), (1, 1, 8, 8), fake=fake).total > 0


def test_modules_made_outside_build_are_an_error():
    modules = two_convolutions()
    with pytest.raises(LorunError, match=r"Denoiser\.layers\.0\.weight is a real tensor"):
        training_step_bytes(lambda: modules, (1, 1, 8, 8))


def test_values_are_an_error_on_fake_tensors_only():
    class Reading(Denoiser):
        def forward(self, y, physics):
            return super().forward(y / y.amax().item(), physics)

    def build():
        return Reading(nn.Conv2d(1, 1, 3, padding=1)), Doubling()

    with pytest.raises(LorunError, match="fake tensors, which have no values"):
        training_step_bytes(build, (1, 1, 8, 8))
    assert training_step_bytes(build, (1, 1, 8, 8), fake=False).total > 0


def test_no_cuda_no_peak(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cuda_training_peak(two_convolutions, (1, 1, 8, 8)) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_cuda_allocates_what_is_counted():
    def build():
        return Unfolding(width=32), Doubling()

    counted = training_step_bytes(build, (8, 1, 256, 256)).total
    measured = cuda_training_peak(build, (8, 1, 256, 256))
    assert 0.95 * counted < measured < 1.5 * counted  # rounding and scratch space on top
