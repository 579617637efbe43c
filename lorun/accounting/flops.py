"""Floating-point operations of a reconstruction."""

import math
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lorun.accounting.building import Build, image_batch, make_modules, separate_operators
from lorun.accounting.fake import fake_tensors
from lorun.convolution import as_written


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
        with FlopCounterMode(display=False, custom_mapping=_FFTS) as counter:
            network(y, physics)
        return counter.get_total_flops()


def _fft_flops(shape: tuple[int, ...], dim: list[int], *_: Any, real: bool, out_shape: tuple[int, ...]) -> int:
    """5 N log2(N) for each FFT of N points over `dim`, the usual figure (fftw.org/speed); half of it if input or
    output is real, since the complex side then has about N / 2 values."""
    whole = max(shape, out_shape, key=math.prod) if real else shape
    points = math.prod(whole[axis] for axis in dim)
    flops = 5 * math.prod(whole) * math.log2(points) if points > 1 else 0.0
    return round(flops / 2 if real else flops)


_FFTS: dict[Any, Any] = {
    torch.ops.aten._fft_r2c: partial(_fft_flops, real=True),
    torch.ops.aten._fft_c2r: partial(_fft_flops, real=True),
    torch.ops.aten._fft_c2c: partial(_fft_flops, real=False),
}
