"""Floating-point operations of a reconstruction."""

from contextlib import nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lorun.accounting.building import Build, image_batch, make_modules, separate_operators
from lorun.accounting.fake import fake_tensors
from lorun.convolution import as_written


def reconstruction_flops(build: Build, image_shape: tuple[int, ...], *, fake: bool = True) -> int:
    """FLOPs, two for each multiply-add, of one ``network(y, physics)``, y = A(x), in evaluation mode.

    Convolutions, matrix products and attention count, also those by which the network calls the physics;
    making y does not. As PyTorch's FlopCounterMode has it, element-wise operators, normalisation and FFTs
    count nothing.

    Args:
        build: makes the network and the physics.
        image_shape: (batch, channels, height, width) of x; a batch of 1 for the cost of one image.
        fake: count on fake tensors, so that size costs no time or memory; otherwise on real ones.

    Raises:
        LorunError: with ``fake``, the modules need values or were not made in ``build``.
    """
    # Attention as matrix products: not every PyTorch counts its fused kernels.
    tensors = fake_tensors() if fake else nullcontext()
    with tensors, separate_operators(), as_written(), sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        network, physics = make_modules(build, fake=fake)
        # Frozen, for under FlopCounterMode a parameter's view asks for gradients, in spite of no_grad, and fails.
        network.eval().requires_grad_(False)
        physics.eval().requires_grad_(False)
        y = physics.A(image_batch(image_shape))
        with FlopCounterMode(display=False) as counter:
            network(y, physics)
        return counter.get_total_flops()
