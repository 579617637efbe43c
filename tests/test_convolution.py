"""Convolutions with few channels against PyTorch's own, in float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lorun.convolution import convolve, gradients, weight_gradient

few = st.integers(1, 20)


@st.composite
def convolutions(draw):
    """x, w, bias, stride, padding: any kernel, padding and stride, few or many channels, in any memory order."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.sampled_from([(1, 1), (2, 2), (1, 2)]))
    padding = (draw(st.integers(0, kernel[0])), draw(st.integers(0, kernel[1])))
    channels, out = draw(few), draw(few)
    height, width = draw(st.integers(4, 17)), draw(st.integers(4, 17))
    order = draw(st.sampled_from([torch.channels_last, torch.contiguous_format]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 100)))

    def tensor(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator).contiguous(memory_format=order)

    bias = torch.randn(out, dtype=torch.float64, generator=generator) if draw(st.booleans()) else None
    return (
        tensor(draw(st.integers(1, 3)), channels, height, width),
        tensor(out, channels, *kernel),
        bias,
        stride,
        padding,
    )


@settings(deadline=None, max_examples=150)
@given(convolutions())
def test_the_same_convolution(case):
    x, w, bias, stride, padding = case
    torch.testing.assert_close(convolve(x, w, bias, stride, padding), F.conv2d(x, w, bias, stride, padding))


@settings(deadline=None, max_examples=150)
@given(convolutions(), st.booleans(), st.booleans())
def test_the_same_gradients(case, for_x, for_w):
    x, w, _, stride, padding = case
    x.requires_grad_()
    w.requires_grad_()
    y = F.conv2d(x, w, None, stride, padding)
    g = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y.backward(g)
    grad_x, grad_w = gradients(g, x.detach(), w.detach(), stride, padding, for_x, for_w)
    assert (grad_x is None) == (not for_x)
    assert (grad_w is None) == (not for_w)
    if for_x:
        torch.testing.assert_close(grad_x, x.grad)
    if for_w:
        torch.testing.assert_close(grad_w, w.grad)
    torch.testing.assert_close(weight_gradient(g, x.detach(), w.detach(), stride, padding), w.grad)


@pytest.mark.parametrize(("out", "calls"), [(1, {(1, 16)}), (2, {(1, 8)}), (7, {(1, 2)}), (16, {(1, 1)})])
def test_pixels_of_few_channels_become_one(out, calls, monkeypatch):
    """That the fast path is taken at all, which equal results do not tell."""
    strides = set()
    conv2d = F.conv2d

    def spy(x, w, bias, stride, padding):
        strides.add(stride)
        return conv2d(x, w, bias, stride, padding)

    monkeypatch.setattr(F, "conv2d", spy)
    convolve(torch.rand(1, 4, 16, 32), torch.rand(out, 4, 3, 3), None, (1, 1), (1, 1))
    assert strides == calls
