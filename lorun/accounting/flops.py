"""Floating-point operations of a reconstruction and of a training step."""

import math
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lorun.accounting.building import Build, image_batch, make_modules, separate_operators, step_build
from lorun.accounting.fake import fake_tensors
from lorun.config import Recompute, TrainingConfig
from lorun.convolution import as_written
from lorun.errors import LorunError
from lorun.methods import Experiment
from lorun.step import counted_precision, make_optimizer, training_step
from lorun.system import System, build_system


def reconstruction_flops(build: Build, image_shape: tuple[int, ...], *, fake: bool = True) -> int:
    """FLOPs, two for each multiply-add, of one ``network(y, physics)``, y = A(x), in evaluation mode.

    Convolutions, matrix products and attention count, including those in the physics that the network calls; making y
    does not. As in PyTorch's FlopCounterMode, element-wise operators and normalisation count nothing. An FFT of N
    points counts 5 N log2(N), one of real values half of that.

    Args:
        build: makes the network and the physics.
        image_shape: (batch, channels, height, width) of x; a batch of 1 for the cost of one image.
        fake: count on fake tensors, so that size costs no time or memory; otherwise on real ones.

    Raises:
        LorunError: with ``fake``, the modules need values or were not made in ``build``.
    """
    # Attention as matrix products: not every PyTorch version counts the fused kernels.
    tensors = fake_tensors() if fake else nullcontext()
    with tensors, separate_operators(), as_written(), sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        network, physics = make_modules(build, fake=fake)
        # Frozen: under FlopCounterMode a view of a parameter requires gradients despite no_grad, and fails.
        network.eval().requires_grad_(False)
        physics.eval().requires_grad_(False)
        y = physics.A(image_batch(image_shape))
        with FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
            network(y, physics)
        return counter.get_total_flops()


def training_step_flops(
    build: Build, batch_shape: tuple[int, ...], config: TrainingConfig, *, fake: bool = True
) -> int:
    """FLOPs of one training step as the training loop makes it (`lorun.step`): forward and backward pass, the
    measurement included, as `reconstruction_flops` counts them.

    What no gradient needs is not computed and does not count: the weight gradients of frozen layers, for example. What
    is computed again in the backward pass counts again. The optimiser's step is element-wise and counts nothing.

    Args:
        build: makes the network and the physics.
        batch_shape: (batch, channels, height, width) of x.
        config: how the step is made; its batch and patch do not count.
        fake: count on fake tensors; otherwise on real ones.

    Raises:
        LorunError: nothing is trainable; or, with ``fake``, the modules need values or were not made in ``build``.
    """
    tensors = fake_tensors() if fake else nullcontext()
    with tensors, separate_operators(), as_written(), sdpa_kernel(SDPBackend.MATH):
        network, physics = make_modules(build, fake=fake)
        system = System(network, physics)  # type: ignore[arg-type]
        optimizer = make_optimizer(system, config, torch.device("cpu"))
        if optimizer is None:
            raise LorunError(
                f"{type(network).__name__} has no trainable parameters: there is no training step to count"
            )
        x = image_batch(batch_shape)
        with FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
            training_step(system, physics, x, optimizer, config)
        return counter.get_total_flops()


def step_flops(experiment: Experiment) -> int:
    """Counted FLOPs of a step of its training, see `training_step_flops`.

    `recompute: auto`, whose choice depends on the machine, counts as none. A process counts steps of the same sizes
    once, since that takes seconds.

    Raises:
        LorunError: nothing is trainable.
    """
    training = experiment.training
    assert training is not None
    sizes = (experiment.account_key, training.batch, training.patch_size)
    if sizes not in _counted:
        _counted[sizes] = _step_flops(experiment, training)
    return _counted[sizes]


_counted: dict[tuple[str, int, tuple[int, int]], int] = {}


def _step_flops(experiment: Experiment, training: TrainingConfig) -> int:
    recompute: Recompute = "none" if training.recompute == "auto" else training.recompute
    build = step_build(experiment, training.patch_size, recompute)
    with fake_tensors():
        fake = not getattr(build_system(experiment).network, "data_dependent", False)
    shape = (training.batch, experiment.channels, *training.patch_size)
    return training_step_flops(build, shape, counted_precision(training), fake=fake)


def _fft_flops(shape: tuple[int, ...], dim: list[int], *_: Any, real: bool, out_shape: tuple[int, ...]) -> int:
    """5 N log2(N) for each FFT of N points over `dim`, the usual figure (fftw.org/speed); half of it if input or
    output is real, since the complex side then has about N / 2 values."""
    whole = max(shape, out_shape, key=math.prod) if real else shape
    points = math.prod(whole[axis] for axis in dim)
    flops = 5 * math.prod(whole) * math.log2(points) if points > 1 else 0.0
    return round(flops / 2 if real else flops)


def _convolution_backward_flops(
    grad_shape: tuple[int, ...], x_shape: tuple[int, ...], w_shape: tuple[int, ...], *others: Any, **_: Any
) -> int:
    """As many as the convolution itself for the gradient of x, and for that of w.

    PyTorch's own figure for the latter ignores groups.
    """
    *_bias_stride_padding_dilation, transposed, _output_padding, _groups, (for_x, for_w, _for_bias) = others
    batch, _channels, *image = x_shape if transposed else grad_shape
    return 2 * batch * math.prod(image) * math.prod(w_shape) * (for_x + for_w)


_FORMULAS: dict[Any, Any] = {
    torch.ops.aten.convolution_backward: _convolution_backward_flops,
    torch.ops.aten._fft_r2c: partial(_fft_flops, real=True),
    torch.ops.aten._fft_c2r: partial(_fft_flops, real=True),
    torch.ops.aten._fft_c2c: partial(_fft_flops, real=False),
}
